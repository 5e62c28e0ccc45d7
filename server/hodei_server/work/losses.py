"""What becomes of an attempt whose worker a provider knows to be gone, or not to come."""

from __future__ import annotations

from collections.abc import Mapping

from hodei_providers.contract import Description, ExitReason
from hodei_server.domain.states import Cause

#: By the reason of a worker's end; any other is a worker lost.
CAUSES: Mapping[ExitReason, Cause] = {
    ExitReason.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    ExitReason.EVICTED: Cause.EVICTED,
    ExitReason.IMAGE: Cause.IMAGE,
    ExitReason.UNSCHEDULABLE: Cause.UNSCHEDULABLE,
    ExitReason.DEADLINE: Cause.RUN_TIMEOUT,
}


def cause_of_loss(description: Description, *, started: bool) -> Cause:
    """Return the cause by which an attempt ends.

    :param started: its job has begun: before that no time to run is over.
    """
    cause = CAUSES.get(description.reason, Cause.WORKER_LOST)
    return Cause.START_TIMEOUT if cause is Cause.RUN_TIMEOUT and not started else cause
