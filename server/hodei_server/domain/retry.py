"""Whether an ended attempt is followed by another, and when."""

from __future__ import annotations

import dataclasses
import random

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.states import DEFAULT_RETRY_CAUSES, INFRASTRUCTURE_CAUSES, Cause

DEFAULT_INFRASTRUCTURE_RETRIES = 3
DEFAULT_INITIAL_BACKOFF = 1.0
DEFAULT_MAX_BACKOFF = 300.0
#: Seconds between looks at a quota that is used up, at most: it may have room again at any moment.
MOST_QUOTA_BACKOFF = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt follows.

    :param delay: seconds from now.
    :param counted: this attempt uses up one of those that the policy allows.
    """

    delay: float
    infrastructure: bool
    counted: bool = True


def decide_retry(
    policy: wire.RetryPolicy,
    cause: Cause,
    exit_code: int | None,
    failures: int,
    infrastructure_failures: int,
    *,
    attempts: int = 1,
    final: bool = False,
) -> Retry | None:
    """Decide what follows an attempt that ended.

    :param failures: attempts that failed by the user's own causes before this one.
    :param infrastructure_failures: attempts that failed by the infrastructure before this one.
    :param attempts: how many there were, with this one.
    :param final: the infrastructure will never do what was asked of it.
    :return: None when the job ends with this attempt.
    """
    if cause is Cause.EXIT_CODE and exit_code == 0:
        return None
    if cause in INFRASTRUCTURE_CAUSES:
        if final:
            return None
        if cause is Cause.QUOTA and not policy.HasField("max_infrastructure_retries"):
            # No failure: the job waits for room, for as long as it may wait in the queue (W04).
            delay = min(_delay(policy, attempts - 1), MOST_QUOTA_BACKOFF)
            return Retry(delay, infrastructure=True, counted=False)
        allowed = DEFAULT_INFRASTRUCTURE_RETRIES
        if policy.HasField("max_infrastructure_retries"):
            allowed = policy.max_infrastructure_retries
        if infrastructure_failures >= allowed:
            return None
        return Retry(_delay(policy, infrastructure_failures), infrastructure=True)
    causes = frozenset(Cause(value) for value in policy.on_causes)
    causes = causes or (frozenset({Cause.EXIT_CODE}) if policy.on_exit_codes else DEFAULT_RETRY_CAUSES)
    if cause not in causes or failures + 1 >= policy.max_attempts:
        return None
    if cause is Cause.EXIT_CODE and policy.on_exit_codes and exit_code not in policy.on_exit_codes:
        return None
    return Retry(_delay(policy, failures), infrastructure=False)


def _delay(policy: wire.RetryPolicy, earlier: int) -> float:
    """Return a back-off that doubles, from half of it to the whole by chance."""
    first = policy.initial_backoff.ToTimedelta().total_seconds() if policy.HasField("initial_backoff") else None
    most = policy.max_backoff.ToTimedelta().total_seconds() if policy.HasField("max_backoff") else DEFAULT_MAX_BACKOFF
    whole = min(most, (DEFAULT_INITIAL_BACKOFF if first is None else first) * 2.0 ** min(earlier, 32))
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
