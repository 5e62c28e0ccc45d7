"""Rows of jobs in a real database, and what moves of them must have made of a model beside it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis.stateful import invariant
from sqlalchemy import select

from hodei.v1 import worker_pb2 as worker_wire
from hodei_faults.job_model import SECOND, Attempt, Job, Worker
from hodei_faults.machine import SchedulerMachine
from hodei_providers.contract import Health
from hodei_providers.memory import MemoryProvider
from hodei_server.db.attempts import LogEnd, attempt_started, finish, keep_result, release_worker
from hodei_server.db.job_queries import next_wake
from hodei_server.db.schema import attempts, job_events, jobs, log_segments, workers
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import begin_removal, confirm_removal, drain_worker, said_hello
from hodei_server.domain.breaker import Breaker
from hodei_server.domain.measures import Measures
from hodei_server.domain.states import Cause, JobState
from hodei_server.domain.workers import WorkerState
from hodei_server.work.scheduler_settings import SchedulerSettings

#: The providers, and how many workers each may have.
CAPACITY = {"one": 1, "three": 3}
#: Jobs that a worker runs.
MAX_JOBS = 2
#: Seconds.
START_TIMEOUT = 30
#: Microseconds.
RUN_LIMIT = 20 * SECOND


class Fleet:
    """What the scheduler asks of providers; launches nothing."""

    def __init__(self) -> None:
        self.providers = {name: MemoryProvider(name, max_workers=most) for name, most in CAPACITY.items()}
        self.health = {name: Health(healthy=True) for name in CAPACITY}
        self.breakers = {name: Breaker() for name in CAPACITY}
        self.measures = {name: Measures(0.0) for name in CAPACITY}

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:  # noqa: ARG002 - the fleet's shape
        """Run nothing."""
        coroutine.close()

    def given(self, *_: object) -> None:
        """Show nothing of what workers were given."""


class JobRows(SchedulerMachine):
    """Drives the database's moves by a clock of its own."""

    now: int

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000_000 * SECOND
        self.jobs: list[Job] = []
        self.workers: list[Worker] = []
        self.requests: dict[str, Job] = {}
        self.fleet = Fleet()
        options = SchedulerSettings("lowest-cost", START_TIMEOUT, 10, 600, MAX_JOBS, "server")
        self.scheduler = self.scheduler_of(self.fleet, options)

    @property
    def all_attempts(self) -> list[tuple[Job, Attempt]]:
        """Every attempt with its job."""
        return [(job, attempt) for job in self.jobs for attempt in job.attempts]

    def held(self, provider: str) -> int:
        """Return how many workers a provider has, those that start or are being removed included."""
        return sum(each.provider == provider and each.state is not WorkerState.GONE for each in self.workers)

    def _remove(self, worker: Worker, *, drain: bool) -> None:
        if drain:
            self.do(lambda tx: drain_worker(tx, worker.worker_id))
        else:
            row = self.do(lambda tx: begin_removal(tx, worker.worker_id, "why"))
            assert (row is None) == (worker.state is WorkerState.GONE)
        if worker.state is not WorkerState.GONE:
            worker.state = WorkerState.DRAINING

    def _gone(self, worker: Worker) -> None:
        self.do(lambda tx: confirm_removal(tx, worker.worker_id))
        worker.state = WorkerState.GONE

    def _give_up(self, job: Job, attempt: Attempt, cause: Cause) -> None:
        message = worker_wire.AttemptResult(attempt_uid=attempt.uid, epoch=attempt.epoch + 1, cause=int(cause))  # type: ignore[arg-type]
        self._result(job, attempt, message, cause, None, fence=True)

    def _hello(self, worker: Worker) -> None:
        self.do(lambda tx: said_hello(tx, worker.worker_id))
        if worker.state is WorkerState.STARTING:
            worker.state = WorkerState.BUSY if worker.attempt else WorkerState.IDLE
        if worker.state is not WorkerState.GONE:
            self.sessions.connect(worker.worker_id)

    def _started(self, job: Job, attempt: Attempt, stale: int) -> None:
        heard = attempt.state is JobState.STARTING and not stale
        row = self.do(lambda tx: attempt_started(tx, attempt.uid, attempt.epoch - stale, RUN_LIMIT))
        assert (row is not None) == heard
        if heard:
            attempt.state = JobState.RUNNING
            job.move(JobState.RUNNING)

    def _ended(self, job: Job, attempt: Attempt, stale: int, how: tuple[Cause, int | None]) -> None:
        epoch = attempt.epoch - stale
        message = worker_wire.AttemptResult(attempt_uid=attempt.uid, epoch=epoch, cause=int(how[0]), exit_code=how[1])  # type: ignore[arg-type]
        self._result(job, attempt, message, *how, heard=not stale)

    def _result(
        self,
        job: Job,
        attempt: Attempt,
        message: worker_wire.AttemptResult,
        cause: Cause,
        exit_code: int | None,
        *,
        fence: bool = False,
        heard: bool = True,
    ) -> None:
        heard = heard and attempt.state in {JobState.STARTING, JobState.RUNNING}
        row = self.do(lambda tx: keep_result(tx, message, fence=fence))
        assert (row is not None) == heard
        if heard:
            attempt.state, attempt.result = JobState.FINISHING, (cause, exit_code)
            attempt.epoch += fence
            job.move(JobState.FINISHING)

    def _log_final(self, job: Job, attempt: Attempt, chunks: int) -> None:
        end = LogEnd(chunks, True, Segment(attempt.uid, 0, SegmentState.CLOSED, chunks))  # noqa: FBT003 - a figure

        def write(tx: Transaction) -> Any:
            row = finish(tx, attempt.uid, end, SECOND)
            release_worker(tx, attempt.worker.worker_id, attempt.uid)
            return row

        if attempt.state in {JobState.STARTING, JobState.RUNNING}:
            # The server frees no worker of an attempt that is not over.
            assert self.do(lambda tx: finish(tx, attempt.uid, end, SECOND)) is None
            return
        row = self.do(write)
        assert (row is not None) == (attempt.state is JobState.FINISHING)
        if attempt.state is not JobState.FINISHING:
            return
        assert attempt.result is not None
        job.end(attempt, self.now)
        attempt.log_end = chunks
        worker = attempt.worker
        if worker.attempt == attempt.uid:
            worker.attempt, worker.done = None, worker.done + 1
            if worker.state is WorkerState.BUSY:
                worker.state = WorkerState.DRAINING if worker.done >= MAX_JOBS else WorkerState.IDLE

    @invariant()
    def agrees(self) -> None:
        """Compare every row with the model."""
        job_rows, attempt_rows, worker_rows, segments, events, wake = self.do(
            lambda tx: (
                tx.execute(select(*jobs.c).order_by(jobs.c.number)).mappings().all(),
                {row["attempt_uid"]: row for row in tx.execute(select(*attempts.c)).mappings()},
                {row["worker_id"]: row for row in tx.execute(select(*workers.c)).mappings()},
                {row["attempt_uid"]: row for row in tx.execute(select(*log_segments.c)).mappings()},
                tx.execute(select(*job_events.c).order_by(job_events.c.version)).mappings().all(),
                next_wake(tx),
            )
        )
        assert [row["job_id"] for row in job_rows] == [job.job_id for job in self.jobs]
        for job, row in zip(self.jobs, job_rows, strict=True):
            job.agrees(row, [event for event in events if event["job_id"] == job.job_id])
        assert set(attempt_rows) == set(segments) == {attempt.uid for _, attempt in self.all_attempts}
        for job, attempt in self.all_attempts:
            number = job.attempts.index(attempt) + 1
            attempt.agrees(number, attempt_rows[attempt.uid], segments[attempt.uid])
        assert set(worker_rows) == {worker.worker_id for worker in self.workers}
        for worker in self.workers:
            row = worker_rows[worker.worker_id]
            held = (WorkerState(row["state"]), row["attempt_uid"], row["jobs_done"])
            assert held == (worker.state, worker.attempt, worker.done)
        for name, most in CAPACITY.items():
            assert self.held(name) <= most
        backing_off = [job for job in self.jobs if job.state is JobState.QUEUED and job.not_before > self.now]
        assert wake == min((job.not_before for job in backing_off), default=None)
