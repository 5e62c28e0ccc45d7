"""Moves of jobs in any order, against a model of what they may do: on every engine there is."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from hodei.v1 import types_pb2 as wire
from hodei_faults.job_model import SECOND, Attempt, Job, Worker
from hodei_faults.job_rows import CAPACITY, START_TIMEOUT, JobRows
from hodei_faults.machine import finished, pick, run_machine
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.jobs import CancelWish, NewJob, expire_queued, insert_job, request_cancel
from hodei_server.domain.states import ACTIVE_STATES, Cause, JobState
from hodei_server.domain.workers import WorkerState

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


class JobMoves(JobRows):
    """Draws what clients, the server and workers do."""

    def any_attempt(self, data: st.DataObject) -> tuple[Job, Attempt]:
        """Draw an attempt, more often one that is not over."""
        live = [each for each in self.all_attempts if each[1].state in ACTIVE_STATES]
        narrow = data.draw(st.integers(0, 3))
        return pick(data, live if live and narrow else self.all_attempts)

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
        assert not self.do(lambda tx: assign(tx, [given]))

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

    @precondition(lambda self: any(each.state is WorkerState.DRAINING for each in self.workers))
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        """Nothing of a worker is left."""
        self._gone(pick(data, (each for each in self.workers if each.state is WorkerState.DRAINING)))

    @precondition(lambda self: any(each.worker.state is WorkerState.GONE for _, each in self.all_attempts))
    @rule(data=st.data(), cause=st.sampled_from(BY_SERVER))
    def give_up(self, data: st.DataObject, cause: Cause) -> None:
        """End the attempt of a worker that is gone by the server's own word; one with a result keeps that."""
        lost = [each for each in self.all_attempts if each[1].worker.state is WorkerState.GONE]
        self._give_up(*pick(data, lost), cause)

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

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), stale=st.sampled_from([0, 0, 0, 1]))
    def started(self, data: st.DataObject, stale: int) -> None:
        """W32: the process runs; said late, twice or by one that was fenced, it changes nothing."""
        self._started(*self.any_attempt(data), stale)

    @precondition(lambda self: self.all_attempts)
    @rule(data=st.data(), stale=st.sampled_from([0, 0, 0, 1]), how=st.sampled_from(BY_WORKER))
    def result(self, data: st.DataObject, stale: int, how: tuple[Cause, int | None]) -> None:
        """W32: the process has ended; the first result counts, of an attempt that is still its worker's."""
        self._ended(*self.any_attempt(data), stale, how)

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


def test_no_order_of_moves_breaks_a_job(database_url: str) -> None:
    """W14, W15, W16, W32, W44, W45: one live attempt, one end, no resurrection, no worker too many, in any order."""
    run_machine(JobMoves, database_url, examples=50, steps=40)
