"""What jobs, their attempts and workers may do, as plain as it can be said: what the database is compared with."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.db.segments import SegmentState
from hodei_server.domain.states import ACTIVE_STATES, INFRASTRUCTURE_CAUSES, MOVES, Cause, JobState
from hodei_server.domain.workers import WorkerState

SECOND = 1_000_000
#: What takes an attempt to its end, and the end it takes it to.
END_OF = {Cause.CANCELLED: JobState.CANCELLED, Cause.RUN_TIMEOUT: JobState.TIMED_OUT}
#: A stop that was asked for does not hide how these ended.
OWN_ENDS = {Cause.EXIT_CODE, Cause.SIGNAL}


@dataclasses.dataclass
class Worker:
    worker_id: str
    provider: str
    attempt: str | None
    state: WorkerState = WorkerState.STARTING
    done: int = 0


@dataclasses.dataclass
class Attempt:
    uid: str
    worker: Worker
    start_deadline: int
    state: JobState = JobState.STARTING
    epoch: int = 1
    result: tuple[Cause, int | None] | None = None
    log_end: int | None = None

    def agrees(self, number: int, row: Any, segment: Any) -> None:
        """See that the database has the attempt, and its log's one segment, as they are here."""
        assert row["number"] == number
        assert (JobState(row["state"]), row["epoch"]) == (self.state, self.epoch)
        assert row["start_deadline"] == self.start_deadline
        assert (row["run_deadline"] is None) == (row["started_at"] is None)
        ended = self.log_end is not None
        assert (row["log_ended"], row["log_complete"]) == (ended, ended)
        assert (SegmentState(segment["state"]) is SegmentState.CLOSED) == ended
        if ended:
            assert row["log_next_sequence"] == segment["next_sequence"] == self.log_end
            assert self.result is not None
            outcome = wire.Outcome.FromString(row["outcome"])
            assert (JobState(outcome.state), Cause(outcome.cause)) == (self.state, self.result[0])


@dataclasses.dataclass
class Job:
    job_id: str
    spec: wire.JobSpec
    queue_deadline: int | None
    state: JobState = JobState.QUEUED
    attempts: list[Attempt] = dataclasses.field(default_factory=list)
    failures: int = 0
    infrastructure: int = 0
    earliest: tuple[int, int] = (0, 0)
    not_before: int = 0
    cancelled_at: int | None = None
    grace: int | None = None
    cause: Cause | None = None
    moves: int = 1
    final_row: dict[str, Any] | None = None

    def move(self, state: JobState, cause: Cause | None = None) -> None:
        """Note a move."""
        self.state, self.cause = state, cause
        self.moves += 1

    def back_off(self, cause: Cause, exit_code: int | None) -> float | None:
        """Return the longest back-off before another attempt; None where none follows."""
        policy = self.spec.retry
        user = cause not in INFRASTRUCTURE_CAUSES
        if user:
            default = [wire.CAUSE_EXIT_CODE, wire.CAUSE_SIGNAL, wire.CAUSE_OUT_OF_MEMORY]
            named = list(policy.on_causes) or default[: 1 if policy.on_exit_codes else None]
            wanted = int(cause) in named and (cause is not Cause.EXIT_CODE or exit_code != 0)
            if cause is Cause.EXIT_CODE and policy.on_exit_codes:
                wanted = wanted and exit_code in policy.on_exit_codes
            before, allowed = self.failures, policy.max_attempts - 1
        else:
            wanted, before = True, self.infrastructure
            allowed = policy.max_infrastructure_retries if policy.HasField("max_infrastructure_retries") else 3
        if not wanted or before >= allowed:
            return None
        first = policy.initial_backoff.seconds if policy.HasField("initial_backoff") else 1
        most = policy.max_backoff.seconds if policy.HasField("max_backoff") else 300
        return float(min(first * 2**before, most))

    def end(self, attempt: Attempt, now: int) -> None:
        """End the newest attempt, whose result is known: the job ends with it, or waits for another."""
        assert attempt.result is not None
        cause, exit_code = attempt.result
        success = cause is Cause.EXIT_CODE and exit_code == 0
        attempt.state = JobState.SUCCEEDED if success else END_OF.get(cause, JobState.FAILED)
        if self.cancelled_at is not None:
            own = cause in OWN_ENDS
            self.move(attempt.state if own else JobState.CANCELLED, cause if own else Cause.CANCELLED)
            return
        longest = self.back_off(cause, exit_code)
        if longest is None:
            self.move(attempt.state, cause)
            return
        if cause in INFRASTRUCTURE_CAUSES:
            self.infrastructure += 1
        else:
            self.failures += 1
        self.earliest = (now + int(longest * SECOND / 2), now + int(longest * SECOND))
        self.move(JobState.QUEUED)

    def agrees(self, row: Any, events: list[Any]) -> None:
        """See that the database has the job as it is here."""
        assert JobState(row["state"]) is self.state
        assert row["attempt_number"] == len(self.attempts)
        assert row["attempt_uid"] == (self.attempts[-1].uid if self.attempts else None)
        assert (row["failures"], row["infrastructure_failures"]) == (self.failures, self.infrastructure)
        assert (row["cancel_requested_at"], row["cancel_grace_ms"]) == (self.cancelled_at, self.grace)
        assert self.earliest[0] <= row["not_before"] <= self.earliest[1]
        self.not_before = row["not_before"]
        assert [event["version"] for event in events] == list(range(1, self.moves + 1))
        states = [JobState(event["state"]) for event in events]
        assert all(after in MOVES[before] for before, after in itertools.pairwise(states))
        assert states[-1] is self.state
        assert sum(attempt.state in ACTIVE_STATES for attempt in self.attempts) <= 1
        if not self.state.terminal:
            assert (row["ended_at"], row["outcome"], self.final_row) == (None, None, None)
            return
        outcome = wire.Outcome.FromString(row["outcome"])
        assert (JobState(outcome.state), Cause(outcome.cause)) == (self.state, self.cause)
        if self.final_row is None:
            self.final_row = dict(row)
        assert dict(row) == self.final_row
