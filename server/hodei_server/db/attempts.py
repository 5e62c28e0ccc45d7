"""The life of an attempt: assigned, started, its result kept, finished. Every function is one conditional step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Case, case, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.db.database import Transaction
from hodei_server.db.events import move
from hodei_server.db.jobs import duration_micros
from hodei_server.db.schema import attempts, jobs, workers
from hodei_server.db.segments import Segment, close_segment, insert_segment
from hodei_server.domain.retry import decide_retry
from hodei_server.domain.states import ACTIVE_STATES, Cause, JobState, ended_as
from hodei_server.domain.workers import WorkerState


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt for a worker, written down before anything is done about it."""

    job_id: str
    attempt_uid: str
    provider: str
    worker_id: str
    #: Which server's disk holds the log.
    owner: str
    start_timeout_micros: int


def assign(tx: Transaction, assignment: Assignment) -> RowMapping | None:
    """Move a job from QUEUED to STARTING with a new attempt.

    :return: the job's row; None when it is not waiting any more (W16).
    """
    row = move(
        tx,
        JobState.STARTING,
        f"Starting on provider {assignment.provider}, worker {assignment.worker_id}",
        job_id=assignment.job_id,
        values={
            "attempt_number": jobs.c.attempt_number + 1,
            "attempt_uid": assignment.attempt_uid,
            "started_at": None,
        },
        only_if=(jobs.c.cancel_requested_at.is_(None),),
    )
    if row is None:
        return None
    tx.execute(
        insert(attempts),
        {
            "attempt_uid": assignment.attempt_uid,
            "job_id": assignment.job_id,
            "number": row["attempt_number"],
            "state": int(JobState.STARTING),
            "provider": assignment.provider,
            "worker_id": assignment.worker_id,
            "epoch": 1,
            "created_at": tx.now,
            "start_deadline": tx.now + assignment.start_timeout_micros,
        },
    )
    insert_segment(tx, assignment.attempt_uid, 0, assignment.owner)
    return row


def attempt_row(tx: Transaction, attempt_uid: str) -> RowMapping | None:
    """Return an attempt's row."""
    return tx.execute(select(*attempts.c).where(attempts.c.attempt_uid == attempt_uid)).mappings().one_or_none()


def active_attempts(tx: Transaction) -> Sequence[RowMapping]:
    """Return the attempts that are not over, with the columns of their jobs that decide about them."""
    job_columns = (jobs.c.spec, jobs.c.cancel_requested_at, jobs.c.cancel_grace_ms, jobs.c.traceparent)
    return (
        tx.execute(
            select(*attempts.c, *job_columns)
            .join(jobs, jobs.c.job_id == attempts.c.job_id)
            .where(attempts.c.state.in_([int(state) for state in ACTIVE_STATES]))
            .order_by(attempts.c.created_at)
        )
        .mappings()
        .all()
    )


def attempt_started(tx: Transaction, attempt_uid: str, epoch: int, run_limit_micros: int | None) -> RowMapping | None:
    """Note that the process runs.

    :param run_limit_micros: run timeout, grace and margin together.
    :return: the job's row; None when that was known, or the attempt is not the worker's any more (harmless, W32).
    """
    changed = tx.execute(
        update(attempts)
        .where(
            attempts.c.attempt_uid == attempt_uid,
            attempts.c.epoch == epoch,
            attempts.c.state == int(JobState.STARTING),
        )
        .values(
            state=int(JobState.RUNNING),
            started_at=tx.now,
            run_deadline=None if run_limit_micros is None else tx.now + run_limit_micros,
        )
    )
    if not changed.rowcount:
        return None
    return move(tx, JobState.RUNNING, "Running", attempt_uid=attempt_uid, values={"started_at": tx.now})


def keep_result(tx: Transaction, result: worker_wire.AttemptResult, *, fence: bool = False) -> RowMapping | None:
    """Keep an attempt's result and move its job to FINISHING.

    :param fence: the result is the server's own: the worker may write no longer.
    :return: the job's row; None when there is a result already, or the attempt is not the worker's any more.
    """
    conditions = [
        attempts.c.attempt_uid == result.attempt_uid,
        attempts.c.state.in_([int(JobState.STARTING), int(JobState.RUNNING)]),
    ]
    if not fence:
        conditions.append(attempts.c.epoch == result.epoch)
    changed = tx.execute(
        update(attempts)
        .where(*conditions)
        .values(
            state=int(JobState.FINISHING),
            result=result.SerializeToString(),
            epoch=attempts.c.epoch + (1 if fence else 0),
            log_next_sequence=None if fence else result.next_sequence,
        )
    )
    if not changed.rowcount:
        return None
    return move(
        tx,
        JobState.FINISHING,
        result.message or "The process has ended",
        attempt_uid=result.attempt_uid,
        cause=Cause(result.cause),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LogEnd:
    """The final figures of a log as its attempt finishes.

    :param open_segment: the last segment's, closed with the same transaction; None where there is none to close.
    """

    next_sequence: int
    complete: bool
    open_segment: Segment | None


def finish(tx: Transaction, attempt_uid: str, log: LogEnd, log_ttl_micros: int) -> RowMapping | None:
    """End an attempt whose result is kept and whose log has ended: the job ends with it, or is queued again.

    :return: the job's row; None when the attempt was over already.
    """
    attempt = attempt_row(tx, attempt_uid)
    if attempt is None or attempt["state"] != int(JobState.FINISHING) or attempt["result"] is None:
        return None
    result = worker_wire.AttemptResult.FromString(attempt["result"])
    cause = Cause(result.cause)
    exit_code = result.exit_code if result.HasField("exit_code") else None
    state = ended_as(cause, exit_code)
    outcome = outcome_of(result, state)
    encoded = outcome.SerializeToString()
    tx.execute(
        update(attempts)
        .where(attempts.c.attempt_uid == attempt_uid)
        .values(
            state=int(state),
            outcome=encoded,
            ended_at=tx.now,
            log_next_sequence=log.next_sequence,
            log_ended=True,
            log_complete=log.complete,
        )
    )
    if log.open_segment is not None:
        close_segment(tx, log.open_segment)
    job = tx.execute(select(*jobs.c).where(jobs.c.job_id == attempt["job_id"])).mappings().one()
    spec = wire.JobSpec.FromString(job["spec"])
    retry = None
    if job["cancel_requested_at"] is None:
        retry = decide_retry(spec.retry, cause, exit_code, job["failures"], job["infrastructure_failures"])
    elif state is not JobState.SUCCEEDED and cause is not Cause.EXIT_CODE and cause is not Cause.SIGNAL:
        # A stop was asked for and the attempt did not end by itself.
        state, cause = JobState.CANCELLED, Cause.CANCELLED
        outcome.state, outcome.cause = wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED
        encoded = outcome.SerializeToString()
    if retry is not None:
        counter = "infrastructure_failures" if retry.infrastructure else "failures"
        return move(
            tx,
            JobState.QUEUED,
            f"Attempt {attempt['number']} ended ({outcome.message}); another follows",
            attempt_uid=attempt_uid,
            cause=cause,
            values={
                counter: jobs.c[counter] + 1,
                "not_before": tx.now + int(retry.delay * 1e6),
                # Waiting in the queue has a clock of its own: it stood still while there was an attempt (W05).
                "queue_deadline": jobs.c.queue_deadline + (tx.now - attempt["created_at"]),
            },
        )
    ttl = duration_micros(spec.log_ttl) if spec.HasField("log_ttl") else log_ttl_micros
    return move(
        tx,
        state,
        outcome.message,
        attempt_uid=attempt_uid,
        cause=cause,
        values={"ended_at": tx.now, "outcome": encoded, "logs_expire_at": tx.now + ttl},
    )


def outcome_of(result: worker_wire.AttemptResult, state: JobState) -> wire.Outcome:
    """Return what people are told of a result."""
    outcome = wire.Outcome(
        state=wire.JobState.ValueType(int(state)),
        cause=result.cause,
        message=result.message or _sentence(result),
        peak_memory_bytes=result.peak_memory_bytes,
    )
    if result.HasField("exit_code"):
        outcome.exit_code = result.exit_code
    if result.HasField("signal"):
        outcome.signal = result.signal
    if result.HasField("cpu_time"):
        outcome.cpu_time.CopyFrom(result.cpu_time)
    return outcome


def _sentence(result: worker_wire.AttemptResult) -> str:
    if result.HasField("exit_code"):
        return f"Exited with code {result.exit_code}"
    if result.HasField("signal"):
        return f"Ended by signal {result.signal}"
    return Cause(result.cause).name.replace("_", " ").capitalize()


def release_worker(tx: Transaction, worker_id: str, attempt_uid: str) -> RowMapping | None:
    """Free a worker of the attempt it had. It is idle, or done when it has run all it may.

    :return: the worker's row, if it had that attempt.
    """
    return (
        tx.execute(
            update(workers)
            .where(workers.c.worker_id == worker_id, workers.c.attempt_uid == attempt_uid)
            .values(attempt_uid=None, jobs_done=workers.c.jobs_done + 1, state=_after_job())
            .returning(*workers.c)
        )
        .mappings()
        .one_or_none()
    )


def _after_job() -> Case[int]:
    spent = (workers.c.max_jobs > 0) & (workers.c.jobs_done + 1 >= workers.c.max_jobs)
    return case(
        (workers.c.state != int(WorkerState.BUSY), workers.c.state),
        (spent, int(WorkerState.DRAINING)),
        else_=int(WorkerState.IDLE),
    )
