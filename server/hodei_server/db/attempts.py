"""The life of an attempt: assigned, started, its result kept, finished. Every function is one conditional step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, case, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.db.events import Shape, move, move_each
from hodei_server.db.jobs import logs_expire_at
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import attempts, jobs, workers
from hodei_server.db.segments import Segment, close_segment, insert_segment
from hodei_server.db.transaction import Transaction, one_of
from hodei_server.domain.outcomes import outcome_of
from hodei_server.domain.prices import Prices
from hodei_server.domain.retry import Retry, decide_retry
from hodei_server.domain.states import ACTIVE_STATES, Cause, JobState, ended_as
from hodei_server.domain.workers import WorkerState

_ASSIGN = Shape(values={"attempt_number": jobs.c.attempt_number + 1}, only_if=(jobs.c.cancel_requested_at.is_(None),))
_INSERT_ATTEMPT = prepared(insert(attempts))
_STARTED = prepared(
    update(attempts)
    .where(
        attempts.c.attempt_uid == bindparam("uid"),
        attempts.c.epoch == bindparam("of_epoch"),
        attempts.c.state == int(JobState.STARTING),
    )
    .values(
        state=int(JobState.RUNNING),
        started_at=case(
            (attempts.c.created_at > bindparam("to_started_at"), attempts.c.created_at),
            else_=bindparam("to_started_at"),
        ),
        run_deadline=bindparam("to_run_deadline"),
    )
    .returning(attempts.c.started_at)
)
_ended = (
    update(attempts)
    .where(
        attempts.c.attempt_uid == bindparam("uid"),
        one_of(attempts.c.state, (JobState.STARTING, JobState.RUNNING)),
    )
    .values(
        state=int(JobState.FINISHING),
        result=bindparam("to_result"),
        log_next_sequence=bindparam("to_log_next_sequence"),
    )
)
_KEEP_RESULT = prepared(_ended.where(attempts.c.epoch == bindparam("of_epoch")))
_KEEP_RESULT_AND_FENCE = _ended.values(epoch=attempts.c.epoch + 1)
_FINISH = prepared(
    update(attempts)
    .where(attempts.c.attempt_uid == bindparam("uid"))
    .values(
        {
            name: bindparam(f"to_{name}")
            for name in ("state", "outcome", "ended_at", "cost", "log_next_sequence", "log_ended", "log_complete")
        }
    )
)
_ACTIVE_UIDS = select(attempts.c.attempt_uid).where(one_of(attempts.c.state, ACTIVE_STATES))
_ENDING = prepared(
    select(
        *(attempts.c[name] for name in ("state", "result", "number", "created_at", "started_at")),
        *(jobs.c[name] for name in ("spec", "cancel_requested_at", "failures", "infrastructure_failures")),
    )
    .join(jobs, jobs.c.job_id == attempts.c.job_id)
    .where(attempts.c.attempt_uid == bindparam("uid"))
)
#: Waiting in the queue has a clock of its own: it stood still while there was an attempt (W05).
_queue_deadline = jobs.c.queue_deadline + bindparam("attempt_took")
_RETRY = Shape(values={"failures": jobs.c.failures + 1, "queue_deadline": _queue_deadline})
_RETRY_INFRASTRUCTURE = Shape(
    values={"infrastructure_failures": jobs.c.infrastructure_failures + 1, "queue_deadline": _queue_deadline}
)
_RETRY_UNCOUNTED = Shape(values={"queue_deadline": _queue_deadline})
_spent = (workers.c.max_jobs > 0) & (workers.c.jobs_done + 1 >= workers.c.max_jobs)
_RELEASE_WORKER = prepared(
    update(workers)
    .where(workers.c.worker_id == bindparam("id"), workers.c.attempt_uid == bindparam("uid"))
    .values(
        attempt_uid=None,
        jobs_done=workers.c.jobs_done + 1,
        state=case(
            (workers.c.state != int(WorkerState.BUSY), workers.c.state),
            (_spent, int(WorkerState.DRAINING)),
            else_=int(WorkerState.IDLE),
        ),
    )
    .returning(workers.c.worker_id, workers.c.state)
)


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
    #: Added to the move's reason.
    remark: str = ""


def assign(tx: Transaction, assignments: Sequence[Assignment]) -> dict[str, RowMapping]:
    """Move jobs, each of them once, from QUEUED to STARTING with a new attempt each.

    :return: the jobs' rows by their ids; those that are not waiting any more are left out (W16).
    """
    changes = [
        {
            "job_id": each.job_id,
            "reason": f"Starting on provider {each.provider}, worker {each.worker_id}{each.remark}",
            "attempt_uid": each.attempt_uid,
            "started_at": None,
        }
        for each in assignments
    ]
    moved = {row["job_id"]: row for row in move_each(tx, JobState.STARTING, changes, shape=_ASSIGN)}
    for each in assignments:
        row = moved.get(each.job_id)
        if row is None:
            continue
        tx.insert_later(
            _INSERT_ATTEMPT,
            {
                "attempt_uid": each.attempt_uid,
                "job_id": each.job_id,
                "job_number": row["number"],
                "number": row["attempt_number"],
                "state": int(JobState.STARTING),
                "provider": each.provider,
                "worker_id": each.worker_id,
                "epoch": 1,
                "created_at": tx.now,
                "start_deadline": tx.now + each.start_timeout_micros,
            },
        )
        insert_segment(tx, each.attempt_uid, 0, each.owner, known_new=True)
    return moved


def active_attempts(tx: Transaction) -> Sequence[RowMapping]:
    """Return the attempts that are not over, with the columns of their jobs that decide about them."""
    names = ("spec", "traceparent", "submitted_at", "not_before", "cancel_requested_at", "cancel_grace_ms")
    return (
        tx.execute(
            select(*attempts.c, *(jobs.c[name] for name in names))
            .join(jobs, jobs.c.job_id == attempts.c.job_id)
            .where(attempts.c.state.in_([int(state) for state in ACTIVE_STATES]))
            .order_by(attempts.c.created_at)
        )
        .mappings()
        .all()
    )


def active_uids(tx: Transaction) -> Sequence[str]:
    """Return the uids of the attempts that are not over."""
    return tx.execute(_ACTIVE_UIDS).scalars().all()


def attempt_started(
    tx: Transaction, attempt_uid: str, epoch: int, run_limit_micros: int | None, *, ran_micros: int = 0
) -> RowMapping | None:
    """Note that the process runs, or has run.

    :param run_limit_micros: run timeout, grace and margin together.
    :param ran_micros: for how long, by then; what would be before the attempt was made is not believed.
    :return: the job's row; None when that was known, or the attempt is not the worker's any more (harmless, W32).
    """
    deadline = None if run_limit_micros is None else tx.now + run_limit_micros
    at = tx.now - max(ran_micros, 0)
    bound = {"uid": attempt_uid, "of_epoch": epoch, "to_started_at": at, "to_run_deadline": deadline}
    started = tx.execute(_STARTED, bound).mappings().one_or_none()
    if started is None:
        return None
    values = {"started_at": started["started_at"]}
    return move(tx, JobState.RUNNING, "Running", attempt_uid=attempt_uid, values=values)


def keep_result(tx: Transaction, result: worker_wire.AttemptResult, *, fence: bool = False) -> RowMapping | None:
    """Keep an attempt's result and move its job to FINISHING.

    :param fence: the result is the server's own: the worker may write no longer.
    :return: the job's row; None when there is a result already, or the attempt is not the worker's any more.
    """
    bound: dict[str, Any] = {
        "uid": result.attempt_uid,
        "to_result": result.SerializeToString(),
        "to_log_next_sequence": None if fence else result.next_sequence,
    }
    if fence:
        changed = tx.execute(_KEEP_RESULT_AND_FENCE, bound)
    else:
        changed = tx.execute(_KEEP_RESULT, bound | {"of_epoch": result.epoch})
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


def finish(
    tx: Transaction, attempt_uid: str, log: LogEnd, log_ttl_micros: int, prices: Prices | None = None
) -> RowMapping | None:
    """End an attempt whose result is kept and whose log has ended: the job ends with it, or is queued again.

    :param prices: of its provider, where there are any.
    :return: the job's row; None when the attempt was over already.
    """
    attempt = tx.execute(_ENDING, {"uid": attempt_uid}).mappings().one_or_none()
    if attempt is None or attempt["state"] != int(JobState.FINISHING) or attempt["result"] is None:
        return None
    result = worker_wire.AttemptResult.FromString(attempt["result"])
    cause = Cause(result.cause)
    exit_code = result.exit_code if result.HasField("exit_code") else None
    state = ended_as(cause, exit_code)
    outcome = outcome_of(result, state)
    encoded = outcome.SerializeToString()
    spec = wire.JobSpec.FromString(attempt["spec"])
    tx.execute(
        _FINISH,
        {
            "uid": attempt_uid,
            "to_state": int(state),
            "to_outcome": encoded,
            "to_ended_at": tx.now,
            "to_cost": _cost(prices, spec, outcome, attempt["started_at"], tx.now),
            "to_log_next_sequence": log.next_sequence,
            "to_log_ended": True,
            "to_log_complete": log.complete,
        },
    )
    if log.open_segment is not None:
        close_segment(tx, log.open_segment)
    retry = None
    if attempt["cancel_requested_at"] is None:
        failed = attempt["failures"], attempt["infrastructure_failures"]
        number, final = attempt["number"], result.final
        retry = decide_retry(spec.retry, cause, exit_code, *failed, attempts=number, final=final)
    elif state is not JobState.SUCCEEDED and cause is not Cause.EXIT_CODE and cause is not Cause.SIGNAL:
        # A stop was asked for and the attempt did not end by itself.
        state, cause = JobState.CANCELLED, Cause.CANCELLED
        outcome.state, outcome.cause = wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED
        encoded = outcome.SerializeToString()
    if retry is not None:
        return move(
            tx,
            JobState.QUEUED,
            f"Attempt {attempt['number']} ended ({outcome.message}); another follows",
            attempt_uid=attempt_uid,
            cause=cause,
            values={"not_before": tx.now + int(retry.delay * 1e6)},
            shape=_retry_shape(retry),
            parameters={"attempt_took": tx.now - attempt["created_at"]},
        )
    expire_at = logs_expire_at(tx, spec, log_ttl_micros)
    return move(
        tx,
        state,
        outcome.message,
        attempt_uid=attempt_uid,
        cause=cause,
        values={"ended_at": tx.now, "outcome": encoded, "logs_expire_at": expire_at},
    )


def _retry_shape(retry: Retry) -> Shape:
    if not retry.counted:
        return _RETRY_UNCOUNTED
    return _RETRY_INFRASTRUCTURE if retry.infrastructure else _RETRY


def _cost(
    prices: Prices | None, spec: wire.JobSpec, outcome: wire.Outcome, started_at: int | None, now: int
) -> float | None:
    """Return what an attempt has cost; one whose process never ran has cost nothing."""
    if prices is None:
        return None
    return prices.of_run(spec, (now - started_at) / 1e6 if started_at is not None else 0.0, outcome)


def release_worker(tx: Transaction, worker_id: str, attempt_uid: str) -> RowMapping | None:
    """Free a worker of the attempt it had. It is idle, or done when it has run all it may.

    :return: the worker's id and state, if it had that attempt.
    """
    return tx.execute(_RELEASE_WORKER, {"id": worker_id, "uid": attempt_uid}).mappings().one_or_none()
