"""Two minutes of the kill tests, and one with logs in S3; `just soak` makes longer runs."""

from __future__ import annotations

import os
import random

import pytest

from hodei_faults.needs import lacks
from hodei_torture import run

#: A laptop's run of all tests is not held up by more than this; CI takes the time it needs.
SECONDS, SECONDS_WITH_S3 = (120.0, 45.0) if os.environ.get("CI") else (20.0, 20.0)


def seed() -> int:
    """Return the one that is asked for, or any."""
    return int(os.environ.get("HODEI_TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_left_running() -> None:
    """L01, L04, L05, L28, W11, W14, W18, W26, W35: whatever dies or breaks, and whenever."""
    assert run(seed(), float(os.environ.get("HODEI_TORTURE_SECONDS") or SECONDS)) == []


@pytest.mark.timeout(900)
def test_nothing_is_lost_where_logs_go_to_a_bucket_that_fails() -> None:
    """L19, L20, L22: S3 is slow, fails, loses answers, is cut off and, where there are commands for that, killed."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        lacks("no S3 server (AWS_ENDPOINT_URL)")
    assert run(seed(), float(os.environ.get("HODEI_TORTURE_SECONDS") or SECONDS_WITH_S3), s3=True) == []
