"""What the API's refusals mean to the server; the one place that says so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hodei_providers.contract import (
    LaunchRejectedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
)

#: How what an administrator has added to the API refuses an object; its own words follow, and may be any.
_DENIED = re.compile(
    r"""admission webhook ".*?" denied the request|ValidatingAdmissionPolicy '.*?' with binding '.*?' denied request"""
)
#: Many pods were made at once, and the quota could not be counted for this one: none was made.
_RACE = "cannot be fulfilled on resourcequotas"
#: How RBAC says who may not do what.
_NO_RIGHT = re.compile(r'\buser ".*?" cannot \w+ ', re.IGNORECASE)
#: How admission refuses while it does not know yet: the API server has just started, a quota was just made.
_NOT_YET = ("not yet ready to handle request", "status unknown for quota")


class NotThereError(ProviderError):
    """There is no such object."""

    retryable = False


class AlreadyThereError(ProviderError):
    """An object of that name is there, or was changed by somebody else."""


class ForbiddenError(ProviderUnavailableError):
    """The server lacks a right; an administrator can give it, so what is asked waits."""


class MissingError(ProviderUnavailableError):
    """What every pod needs there is gone, or going: somebody has deleted it, and it can be made again."""


class NotReadyError(ProviderUnavailableError):
    """Admission can't judge yet: a quota was just made, or the API server has just started. It can in a moment."""

    retry_after = 0.5


class GoneError(ProviderError):
    """A watch can't go on from where it was (410): list again."""


def refusal(status: int, body: bytes) -> ProviderError:
    """Return what an answer of the API that is no success means.

    - 400, 413, 422, and 403 of an admission controller: never as asked.
    - 403 of a quota, 429: no room now.
    - 401, 403 for want of a right, by a namespace's Pod Security standard, or of admission that is not ready yet,
      409 of a quota, 5xx: the cluster can't be used now.

    A webhook refuses by a code and by words of its own choice; neither says what the API's own would say.

    :param body: a `Status` object, or whatever stands between this and the API has said.
    """
    told = _status(body)
    message = str(told.get("message") or body[:500].decode(errors="replace") or f"HTTP status {status}")
    reason = str(told.get("reason") or "")
    text = f"Kubernetes says: {message}"
    if status < 500 and status != 429 and _DENIED.search(message):
        return LaunchRejectedError(text)
    if status == 404:
        return NotThereError(text)
    if status == 409:
        return ProviderUnavailableError(text) if _RACE in text else AlreadyThereError(text)
    if status == 410 or reason in {"Expired", "Gone"}:
        return GoneError(text)
    if status == 403:
        return _forbidden(text)
    if status == 429:
        return QuotaExceededError(text)
    if status in {400, 405, 413, 415, 422}:
        return LaunchRejectedError(text)
    return ProviderUnavailableError(text)


def _forbidden(text: str) -> ProviderError:
    if "exceeded quota" in text or "failed quota" in text:
        return QuotaExceededError(text)
    # RBAC's refusals name who can't do what; admission's name the object and the rule that it breaks.
    if _NO_RIGHT.search(text) or "unauthorized" in text.lower() or "attempting to grant" in text:
        return ForbiddenError(text)
    if "because it is being terminated" in text or "looking up service account" in text:
        return MissingError(text)
    if any(words in text for words in _NOT_YET):
        return NotReadyError(text)
    if "violates PodSecurity" in text:
        # No pod of the server's is taken there until somebody settles the standard: that is no word about one job.
        return ProviderUnavailableError(text)
    return LaunchRejectedError(text)


def _status(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
