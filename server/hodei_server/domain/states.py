"""The state machine of a job: one table of moves, and what each cause means.

    QUEUED -> STARTING -> RUNNING -> FINISHING -> SUCCEEDED | FAILED | CANCELLED | TIMED_OUT

docs/state-machine.md is drawn from `MOVES`.
"""

from __future__ import annotations

import enum
import functools

from hodei.v1 import types_pb2 as wire


class JobState(enum.IntEnum):
    """Where a job is; the numbers are the wire's and the database's."""

    QUEUED = wire.JOB_STATE_QUEUED
    STARTING = wire.JOB_STATE_STARTING
    RUNNING = wire.JOB_STATE_RUNNING
    FINISHING = wire.JOB_STATE_FINISHING
    SUCCEEDED = wire.JOB_STATE_SUCCEEDED
    FAILED = wire.JOB_STATE_FAILED
    CANCELLED = wire.JOB_STATE_CANCELLED
    TIMED_OUT = wire.JOB_STATE_TIMED_OUT

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self in TERMINAL_STATES


class Cause(enum.IntEnum):
    """Why an attempt ended; the numbers are the wire's and the database's."""

    UNSPECIFIED = wire.CAUSE_UNSPECIFIED
    EXIT_CODE = wire.CAUSE_EXIT_CODE
    SIGNAL = wire.CAUSE_SIGNAL
    EXEC_FAILED = wire.CAUSE_EXEC_FAILED
    OUT_OF_MEMORY = wire.CAUSE_OUT_OF_MEMORY
    EVICTED = wire.CAUSE_EVICTED
    IMAGE = wire.CAUSE_IMAGE
    UNSCHEDULABLE = wire.CAUSE_UNSCHEDULABLE
    QUOTA = wire.CAUSE_QUOTA
    QUEUE_TIMEOUT = wire.CAUSE_QUEUE_TIMEOUT
    START_TIMEOUT = wire.CAUSE_START_TIMEOUT
    RUN_TIMEOUT = wire.CAUSE_RUN_TIMEOUT
    WORKER_LOST = wire.CAUSE_WORKER_LOST
    PROVIDER_ERROR = wire.CAUSE_PROVIDER_ERROR
    CANCELLED = wire.CAUSE_CANCELLED
    SECRET = wire.CAUSE_SECRET


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT})
#: States in which an attempt exists that is not over.
ACTIVE_STATES = frozenset({JobState.STARTING, JobState.RUNNING, JobState.FINISHING})
#: All states that are not an end.
UNFINISHED_STATES = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.FINISHING)

#: The moves a job may make. A retry is the move back to QUEUED.
MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT}),
    JobState.STARTING: frozenset({JobState.RUNNING, JobState.FINISHING, JobState.QUEUED}),
    JobState.RUNNING: frozenset({JobState.FINISHING, JobState.QUEUED}),
    JobState.FINISHING: frozenset({JobState.QUEUED}) | TERMINAL_STATES,
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
}

#: Causes that lie with the infrastructure; their retries are counted apart from the user's own.
INFRASTRUCTURE_CAUSES = frozenset(
    {
        Cause.EVICTED,
        Cause.UNSCHEDULABLE,
        Cause.QUOTA,
        Cause.START_TIMEOUT,
        Cause.WORKER_LOST,
        Cause.PROVIDER_ERROR,
    }
)
#: What a retry policy retries on that names neither causes nor exit codes.
DEFAULT_RETRY_CAUSES = frozenset({Cause.EXIT_CODE, Cause.SIGNAL, Cause.OUT_OF_MEMORY})


@functools.cache
def sources_of(target: JobState) -> tuple[JobState, ...]:
    """Return the states from which a job may move to `target`."""
    return tuple(state for state, targets in MOVES.items() if target in targets)


def ended_as(cause: Cause, exit_code: int | None) -> JobState:
    """Return the terminal state that a cause leads to."""
    if cause is Cause.EXIT_CODE and exit_code == 0:
        return JobState.SUCCEEDED
    if cause is Cause.CANCELLED:
        return JobState.CANCELLED
    if cause in {Cause.QUEUE_TIMEOUT, Cause.RUN_TIMEOUT}:
        return JobState.TIMED_OUT
    return JobState.FAILED
