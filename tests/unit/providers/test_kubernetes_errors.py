"""What the API's refusals mean."""

from __future__ import annotations

import json

import pytest

from hodei_providers.contract import (
    LaunchRejectedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
)
from hodei_providers.kubernetes.errors import ForbiddenError, GoneError, NotThereError, refusal


@pytest.mark.parametrize(
    ("status", "message", "kind", "retryable"),
    [
        (403, 'pods "p" is forbidden: exceeded quota: pods, requested: pods=1', QuotaExceededError, True),
        (429, "Too many requests, please try again later.", QuotaExceededError, True),
        (403, 'pods "p" is forbidden: violates PodSecurity "restricted": seccomp', LaunchRejectedError, False),
        (403, 'admission webhook "policy" denied the request: no', LaunchRejectedError, False),
        (403, 'pods is forbidden: User "me" cannot create resource "pods" in API group ""', ForbiddenError, True),
        (401, "Unauthorized", ProviderUnavailableError, True),
        (400, "bad request", LaunchRejectedError, False),
        (422, 'Pod "p" is invalid: spec.containers[0].image', LaunchRejectedError, False),
        (404, 'pods "p" not found', NotThereError, False),
        (410, "too old resource version", GoneError, True),
        (500, "etcdserver: leader changed", ProviderUnavailableError, True),
        (503, "apiserver is shutting down", ProviderUnavailableError, True),
    ],
)  # fmt: skip
def test_refusals_say_whether_trying_again_helps(
    *, status: int, message: str, kind: type[ProviderError], retryable: bool
) -> None:
    """W04: a quota or a busy server waits, what is invalid fails; the API's words are kept."""
    for body in (json.dumps({"kind": "Status", "message": message}), message):
        error = refusal(status, body.encode())
        assert isinstance(error, kind)
        assert error.retryable is retryable
        assert message in str(error)
