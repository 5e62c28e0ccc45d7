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
from hodei_providers.kubernetes.errors import (
    AlreadyThereError,
    ForbiddenError,
    GoneError,
    MissingError,
    NotThereError,
    refusal,
)

RACE = 'Operation cannot be fulfilled on resourcequotas "hodei-jobs-workers-quota": the object has been modified'


@pytest.mark.parametrize(
    ("status", "message", "kind", "retryable"),
    [
        (403, 'pods "p" is forbidden: exceeded quota: pods, requested: pods=1', QuotaExceededError, True),
        (429, "Too many requests, please try again later.", QuotaExceededError, True),
        (403, 'pods "p" is forbidden: violates PodSecurity "restricted": seccomp', ProviderUnavailableError, True),
        (403, 'pods "p" is forbidden: not yet ready to handle request', ProviderUnavailableError, True),
        (403, 'pods "p" is forbidden: status unknown for quota: q, resources: pods', ProviderUnavailableError, True),
        (403, 'pods "p" is forbidden: maximum memory usage per Pod is 1Gi', LaunchRejectedError, False),
        (403, 'admission webhook "policy" denied the request: no', LaunchRejectedError, False),
        (403, 'pods is forbidden: User "me" cannot create resource "pods" in API group ""', ForbiddenError, True),
        (401, "Unauthorized", ProviderUnavailableError, True),
        (400, "bad request", LaunchRejectedError, False),
        (422, 'Pod "p" is invalid: spec.containers[0].image', LaunchRejectedError, False),
        (404, 'pods "p" not found', NotThereError, False),
        (410, "too old resource version", GoneError, True),
        (409, f"{RACE}; please apply your changes to the latest version", ProviderUnavailableError, True),
        (409, 'pods "p" already exists', AlreadyThereError, True),
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


WEBHOOK = 'admission webhook "rules.example" denied the request: '
POLICY = "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'rules' with binding 'all' denied request: "


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
@pytest.mark.parametrize("says", [WEBHOOK, POLICY])
@pytest.mark.parametrize(
    "words",
    [
        "pods cannot run as root",
        "you are unauthorized here",
        "this team has exceeded quota of its own",
        "its service account is not allowed; looking up service account",
        'user "alice" cannot create pods',
        "not yet ready to handle request",
        "",
    ],
)
def test_what_an_admission_controller_says_is_not_taken_for_the_apis_own_word(
    status: int, says: str, words: str
) -> None:
    """W04: the job is refused, whatever the words and the code; nobody waits for a right or for room that is there."""
    body = json.dumps({"kind": "Status", "message": says + words})
    error = refusal(status, body.encode())
    assert type(error) is LaunchRejectedError
    assert words in str(error)


@pytest.mark.parametrize(("status", "retryable"), [(429, True), (500, True), (503, True)])
def test_a_webhook_that_fails_itself_is_waited_for(*, status: int, retryable: bool) -> None:
    """W04: it says so by the code, or does not answer at all."""
    for message in (f"{WEBHOOK}my database is away", 'failed calling webhook "rules.example": connection refused'):
        error = refusal(status, json.dumps({"message": message}).encode())
        assert error.retryable is retryable


def test_what_the_clusters_own_parts_say_of_an_account_that_is_gone_is_no_want_of_a_right() -> None:
    """It can be made again."""
    gone = 'pods "p" is forbidden: error looking up service account space/worker: serviceaccount "worker" not found'
    assert isinstance(refusal(403, gone.encode()), MissingError)
