"""The bucket's own rule: a second net, below the first."""

from __future__ import annotations

import pytest

from hodei_server.lifecycle_rule import DAY, lifecycle_rule
from hodei_server.settings import load_settings


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, 365 + 30),
        ({"log_ttl": "500d"}, 530),
        ({"log_ttl": "1d", "log_ttl_tenants": "a=2d,b=600d"}, 630),
        ({"log_ttl": "500d1s"}, 531),
    ],
)
def test_the_rule_takes_nothing_before_any_log_s_time(given: dict[str, str], days: int) -> None:
    """L22: beyond the settings', a tenant's and the longest that a job may ask for itself, and then some days."""
    rule = lifecycle_rule(load_settings(given), "abc", margin=30 * DAY, uploads=7 * DAY)["Rules"][0]
    assert rule["Expiration"]["Days"] == days


@pytest.mark.parametrize(("prefix", "expected"), [("", "abc/"), ("of/logs", "of/logs/abc/"), ("/logs/", "logs/abc/")])
def test_the_rule_is_for_one_installation_s_names(prefix: str, expected: str) -> None:
    """What is another's in the same bucket stays."""
    rule = lifecycle_rule(load_settings({"s3_prefix": prefix}), "abc", margin=0.0, uploads=1.0)["Rules"][0]
    assert rule["Filter"] == {"Prefix": expected}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
