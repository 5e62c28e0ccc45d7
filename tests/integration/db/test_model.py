"""Moves of jobs in any order, against a model of what they may do: on every engine there is."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from sqlalchemy import select

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_faults.job_model import SECOND, Attempt, Job, Worker
from hodei_faults.machine import SchedulerMachine, finished, pick, run_machine
from hodei_providers.contract import Health
from hodei_providers.memory import MemoryProvider
from hodei_server.db.attempts import Assignment, LogEnd, assign, attempt_started, finish, keep_result, release_worker
from hodei_server.db.database import Transaction
from hodei_server.db.job_queries import next_wake
from hodei_server.db.jobs import CancelWish, NewJob, expire_queued, insert_job, request_cancel
from hodei_server.db.schema import attempts, job_events, jobs, log_segments, workers
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.db.workers import begin_removal, confirm_removal, drain_worker, said_hello
from hodei_server.domain.breaker import Breaker
from hodei_server.domain.measures import Measures
from hodei_server.domain.states import ACTIVE_STATES, Cause, JobState
from hodei_server.domain.workers import WorkerState
from hodei_server.work.scheduler_settings import SchedulerSettings

T = TypeVar("T")
CAPACITY = {"one": 1, "three": 3}
MAX_JOBS = 2
START_TIMEOUT = 30
RUN_LIMIT = 20 * SECOND
POLICIES = [
    wire.RetryPolicy(),
    wire.RetryPolicy(max_attempts=2, initial_backoff=Duration(seconds=4)),
    wire.RetryPolicy(max_attempts=3, on_exit_codes=[75], max_infrastructure_retries=0),
    wire.RetryPolicy(max_attempts=3, on_causes=[wire.CAUSE_RUN_TIMEOUT], max_infrastructure_retries=1),
    wire.RetryPolicy(max_attempts=100, initial_backoff=Duration(seconds=9), max_backoff=Duration(seconds=6)),
]
BY_WORKER = [(Cause.EXIT_CODE, 0), (Cause.EXIT_CODE, 1), (Cause.EXIT_CODE, 75), (Cause.SIGNAL, None)]
BY_WORKER += [(Cause.RUN_TIMEOUT, None), (Cause.CANCELLED, None), (Cause.OUT_OF_MEMORY, 0)]
BY_SERVER = [Cause.WORKER_LOST, Cause.START_TIMEOUT, Cause.RUN_TIMEOUT, Cause.CANCELLED, Cause.PROVIDER_ERROR]


class Fleet:
    """What the scheduler asks of providers; launches nothing."""

    def __init__(self) -> None:
        self.providers = {name: MemoryProvider(name, max_workers=most) for name, most in CAPACITY.items()}
        self.health = {name: Health(healthy=True) for name in CAPACITY}
        self.breakers = {name: Breaker() for name in CAPACITY}
        self.measures = {name: Measures(0.0) for name in CAPACITY}
        self.started: list[str] = []

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Note a launch."""
        coroutine.close()
        self.started.append(name)


class JobMoves(SchedulerMachine):
    """Drives the database's moves by a clock of its own."""

    now: int

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000_000 * SECOND
        self.jobs: list[Job] = []
        self.workers: list[Worker] = []
        self.requests: dict[str, Job] = {}
        self.fleet = Fleet()
        options = SchedulerSettings("lowest-cost", START_TIMEOUT, 10, 600, MAX_JOBS, "server", 100)
        self.scheduler = self.scheduler_of(self.fleet, options)

    @property
    def all_attempts(self) -> list[tuple[Job, Attempt]]:
        """Every attempt with its job."""
        return [(job, attempt) for job in self.jobs for attempt in job.attempts]

    def any_attempt(self, data: st.DataObject) -> tuple[Job, Attempt]:
        """Draw an attempt, more often one that is not over."""
        live = [each for each in self.all_attempts if each[1].state in ACTIVE_STATES]
        narrow = data.draw(st.integers(0, 3))
        return pick(data, live if live and narrow else self.all_attempts)

    def held(self, provider: str) -> int:
        """Return how many workers a provider has, those that start or are being removed included."""
        return sum(each.provider == provider and each.state is not WorkerState.GONE for each in self.workers)

    # What clients do

    @precondition(lambda self: len(self.jobs) < 8)
    @rule(
        policy=st.sampled_from(POLICIES),
        priority=st.integers(-1, 1),
        queue_timeout=st.sampled_from([0, 0, 3]),
        request_id=st.sampled_from(["", "", "a", "b"]),
    )
    def submit(self, policy: wire.RetryPolicy, priority: int, queue_timeout: int, request_id: str) -> None:
        """Submit, perhaps again."""
        spec = wire.JobSpec(argv=["true"], priority=priority, retry=policy)
        if queue_timeout:
            # The waiting of a job that was dispatched before is another test's.
            spec.retry.CopyFrom(wire.RetryPolicy(max_infrastructure_retries=0))
            spec.queue_timeout.seconds = queue_timeout
        new = NewJob(f"j{len(self.jobs)}", spec, "anonymous", request_id)
        submitted = self.do(lambda tx: insert_job(tx, new))
        known = self.requests.get(request_id)
        if known is not None:
            same = known.spec == spec
            assert (submitted.job_id, submitted.existed, submitted.conflict) == (known.job_id, same, not same)
            return
        assert (submitted.job_id, submitted.existed, submitted.conflict) == (new.job_id, False, False)
        deadline = self.now + queue_timeout * SECOND if queue_timeout else None
        self.jobs.append(Job(new.job_id, spec, deadline))
        if request_id:
            self.requests[request_id] = self.jobs[-1]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), grace=st.sampled_from([None, 0, 500, 2000]))
    def cancel(self, data: st.DataObject, grace: int | None) -> None:
        """Ask for a stop, in whatever state."""
        active = [job for job in self.jobs if job.state in ACTIVE_STATES]
        narrow = data.draw(st.integers(0, 3))
        job = pick(data, active if active and narrow else self.jobs)
        assert (
            self.do(lambda tx: request_cancel(tx, CancelWish(job.job_id, "enough", grace), lambda _: SECOND))
            is not None
        )
        if job.state is JobState.QUEUED:
            job.move(JobState.CANCELLED, Cause.CANCELLED)
            job.cancelled_at = self.now
        elif job.state in ACTIVE_STATES:
            job.cancelled_at = job.cancelled_at or self.now
            if grace is not None:
                job.grace = grace if job.grace is None else min(grace, job.grace)

    # What the server does

    @precondition(lambda self: self.jobs)
    @rule()
    def dispatch(self) -> None:
        """W44, W15: what waits is given out in its order, as far as there is room; what is starting counts."""
        waiting = [job for job in self.jobs if job.state is JobState.QUEUED and job.not_before <= self.now]
        waiting.sort(key=lambda job: -job.spec.priority)
        connected = self.sessions.connected()
        idle = {each.worker_id: each for each in self.workers if each.state is WorkerState.IDLE}
        idle = {name: each for name, each in idle.items() if name in connected}
        room = sum(most - self.held(name) for name, most in CAPACITY.items())
        self.given.clear()
        assert finished(self.scheduler.dispatch()) == len(self.given)
        assert [job_id for job_id, *_ in self.given] == [job.job_id for job in waiting[: len(idle) + room]]
        for job, (_, uid, provider, worker_id) in zip(waiting, self.given, strict=False):
            worker = idle.pop(worker_id, None)
            if worker is None:
                worker = Worker(worker_id, provider, uid)
                self.workers.append(worker)
            else:
                worker.state, worker.attempt = WorkerState.BUSY, uid
            job.attempts.append(Attempt(uid, worker, self.now + START_TIMEOUT * SECOND))
            job.move(JobState.STARTING)

    @precondition(lambda self: any(job.state is not JobState.QUEUED for job in self.jobs))
    @rule(data=st.data())
    def dispatch_late(self, data: st.DataObject) -> None:
        """W14, W16: a dispatcher that has read an old queue gives out nothing."""
        job = pick(data, (job for job in self.jobs if job.state is not JobState.QUEUED))
        given = Assignment(job.job_id, "late", "one", "late", "server", SECOND)
        assert self.do(lambda tx: assign(tx, given)) is None

    @precondition(lambda self: self.jobs)
    @rule(seconds=st.sampled_from([0.5, 1, 3, 10]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * SECOND)

    @precondition(lambda self: any(job.queue_deadline and not job.state.terminal for job in self.jobs))
    @rule()
    def queue_clock(self) -> None:
        """End what has waited for too long."""
        late = [
            job for job in self.jobs if job.state is JobState.QUEUED and (job.queue_deadline or 1 << 62) <= self.now
        ]
        rows = self.do(lambda tx: expire_queued(tx, lambda _: SECOND))
        assert [row["job_id"] for row in rows] == [job.job_id for job in late]
        for job in late:
            job.move(JobState.TIMED_OUT, Cause.QUEUE_TIMEOUT)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), drain=st.booleans())
    def remove(self, data: st.DataObject, *, drain: bool) -> None:
        """Begin to remove a worker, or let it take nothing more."""
        self._remove(pick(data, self.workers), drain=drain)

    def _remove(self, worker: Worker, *, drain: bool) -> None:
        if drain:
            self.do(lambda tx: drain_worker(tx, worker.worker_id))
        else:
            row = self.do(lambda tx: begin_removal(tx, worker.worker_id, "why"))
            assert (row is None) == (worker.state is WorkerState.GONE)
        if worker.state is not WorkerState.GONE:
            worker.state = WorkerState.DRAINING

    @precondition(lambda self: any(each.state is WorkerState.DRAINING for each in self.workers))
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        """Nothing of a worker is left."""
        self._gone(pick(data, (each for each in self.workers if each.state is WorkerState.DRAINING)))

    def _gone(self, worker: Worker) -> None:
        self.do(lambda tx: confirm_removal(tx, worker.worker_id))
        worker.state = WorkerState.GONE

    @precondition(lambda self: any(each.worker.state is WorkerState.GONE for _, each in self.all_attempts))
    @rule(data=st.data(), cause=st.sampled_from(BY_SERVER))
    def give_up(self, data: st.DataObject, cause: Cause) -> None:
        """End the attempt of a worker that is gone by the server's own word; one with a result keeps that."""
        lost = [each for each in self.all_attempts if each[1].worker.state is WorkerState.GONE]
        self._give_up(*pick(data, lost), cause)

    def _give_up(self, job: Job, attempt: Attempt, cause: Cause) -> None:
        message = worker_wire.AttemptResult(attempt_uid=attempt.uid, epoch=attempt.epoch + 1, cause=int(cause))  # type: ignore[arg-type]
        self._result(job, attempt, message, cause, None, fence=True)

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), cause=st.sampled_from(BY_SERVER), chunks=st.integers(0, 3))
    def lose(self, data: st.DataObject, cause: Cause, chunks: int) -> None:
        """Give an attempt up, all at once: its worker is removed first."""
        job, attempt = self.any_attempt(data)
        self._remove(attempt.worker, drain=False)
        self._gone(attempt.worker)
        self._give_up(job, attempt, cause)
        self._log_final(job, attempt, chunks)

    # What workers say

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), connect=st.sampled_from([True, True, True, False]))
    def hello(self, data: st.DataObject, *, connect: bool) -> None:
        """Connect a worker, or break its connection."""
        starting = [worker for worker in self.workers if worker.state is WorkerState.STARTING]
        worker = pick(data, starting if starting and connect else self.workers)
        session = self.sessions.get(worker.worker_id)
        if not connect and session is not None:
            self.sessions.disconnect(session)
        else:
            self._hello(worker)

    def _hello(self, worker: Worker) -> None:
        self.do(lambda tx: said_hello(tx, worker.worker_id))
        if worker.state is WorkerState.STARTING:
            worker.state = WorkerState.BUSY if worker.attempt else WorkerState.IDLE
        if worker.state is not WorkerState.GONE:
            self.sessions.connect(worker.worker_id)

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), stale=st.sampled_from([0, 0, 0, 1]))
    def started(self, data: st.DataObject, stale: int) -> None:
        """W32: the process runs; said late, twice or by one that was fenced, it changes nothing."""
        self._started(*self.any_attempt(data), stale)

    def _started(self, job: Job, attempt: Attempt, stale: int) -> None:
        heard = attempt.state is JobState.STARTING and not stale
        row = self.do(lambda tx: attempt_started(tx, attempt.uid, attempt.epoch - stale, RUN_LIMIT))
        assert (row is not None) == heard
        if heard:
            attempt.state = JobState.RUNNING
            job.move(JobState.RUNNING)

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), stale=st.sampled_from([0, 0, 0, 1]), how=st.sampled_from(BY_WORKER))
    def result(self, data: st.DataObject, stale: int, how: tuple[Cause, int | None]) -> None:
        """W32: the process has ended; the first result counts, of an attempt that is still its worker's."""
        self._ended(*self.any_attempt(data), stale, how)

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

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), chunks=st.integers(0, 3))
    def log_final(self, data: st.DataObject, chunks: int) -> None:
        """W45, L26: the log is whole; its attempt ends once, and its job with it unless another attempt follows."""
        self._log_final(*self.any_attempt(data), chunks)

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), how=st.sampled_from(BY_WORKER), chunks=st.integers(0, 3))
    def run(self, data: st.DataObject, how: tuple[Cause, int | None], chunks: int) -> None:
        """Take an attempt to its end, all at once."""
        job, attempt = self.any_attempt(data)
        self._hello(attempt.worker)
        self._started(job, attempt, 0)
        self._ended(job, attempt, 0, how)
        self._log_final(job, attempt, chunks)

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

    # What must hold

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
        waiting = [job for job in self.jobs if job.state is JobState.QUEUED]
        times = [time for job in waiting for time in (job.not_before, job.queue_deadline or 0) if time > self.now]
        assert wake == min(times, default=None)


def test_no_order_of_moves_breaks_a_job(database_url: str) -> None:
    """W14, W15, W16, W32, W44, W45: one live attempt, one end, no resurrection, no worker too many, in any order."""
    run_machine(JobMoves, database_url, examples=50, steps=40)
