"""What clients do to jobs: submit, cancel."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import and_, bindparam, insert, select, text, update
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_server.db.events import move, record_event
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import MAY_WAIT_TOO_LONG, beside_key, job_labels, jobs
from hodei_server.db.secrets import keep_secrets
from hodei_server.db.transaction import Transaction
from hodei_server.domain.fairness import queue_rank
from hodei_server.domain.secrets import Sealed
from hodei_server.domain.states import ACTIVE_STATES, Cause, JobState

#: Returns for how many microseconds logs of a tenant's jobs are kept that don't say it themselves.
LogTtl = Callable[[str], int]

_INSERT = prepared(insert(jobs))
_BY_REQUEST = prepared(
    select(jobs.c.job_id, jobs.c.request_digest, jobs.c.spec, jobs.c.retry_of).where(
        jobs.c.tenant == bindparam("of_tenant"), jobs.c.request_id == bindparam("of_request_id")
    )
)
_BY_ID = select(*jobs.c).where(jobs.c.job_id == bindparam("of_job_id"))
_LATE = (
    select(jobs.c.job_id)
    .where(
        text(MAY_WAIT_TOO_LONG),
        jobs.c.queue_deadline <= bindparam("now"),
        beside_key(jobs.c.state) == int(JobState.QUEUED),
    )
    .order_by(jobs.c.number)
    .limit(500)
)


@dataclasses.dataclass(frozen=True)
class NewJob:
    """A validated submission.

    :param ageing: seconds of waiting that a point of priority is worth.
    :param sealed: the values of its secrets, which are not in `spec`.
    """

    job_id: str
    spec: wire.JobSpec
    principal: str
    request_id: str = ""
    retry_of: str = ""
    traceparent: str = ""
    ageing: float = 60.0
    sealed: Sealed | None = None

    @functools.cached_property
    def encoded(self) -> bytes:
        """Its spec as it is kept."""
        return self.spec.SerializeToString(deterministic=True)

    @functools.cached_property
    def digests(self) -> Sequence[bytes]:
        """What tells whether another one under its request_id asks for the same; the first is kept."""
        if self.sealed is not None:
            # One that anybody can make would tell who tries values out which of them is right.
            return self.sealed.digests
        return [hashlib.sha256(self.retry_of.encode() + b"\0" + self.encoded).digest()]


@dataclasses.dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission.

    :param existed: the request_id had been used for this very job before.
    :param conflict: the request_id had been used for another job.
    """

    job_id: str
    existed: bool = False
    conflict: bool = False


def submitted_before(tx: Transaction, new: NewJob) -> Submitted | None:
    """Return what became of a submission that had its request_id before."""
    if not new.request_id:
        return None
    names = {"of_tenant": new.spec.tenant or "default", "of_request_id": new.request_id}
    known = tx.execute(_BY_REQUEST, names).mappings().one_or_none()
    if known is None:
        return None
    same = known["request_digest"] in new.digests
    if new.sealed is not None and new.sealed.lacks_key_of(known["request_digest"]):
        # Nobody can tell any more whether the values are the same. All else is compared.
        same = (known["spec"], known["retry_of"] or "") == (new.encoded, new.retry_of)
    return Submitted(known["job_id"], existed=same, conflict=not same)


def insert_job(tx: Transaction, new: NewJob) -> Submitted:
    """Store a job as QUEUED."""
    before = submitted_before(tx, new)
    if before is not None:
        return before
    spec = new.spec
    now = tx.now
    values = {
        "job_id": new.job_id,
        "tenant": spec.tenant or "default",
        "principal": new.principal,
        "name": spec.name,
        "spec": new.encoded,
        "request_id": new.request_id or None,
        "request_digest": new.digests[0] if new.request_id else None,
        "traceparent": new.traceparent,
        "retry_of": new.retry_of or None,
        "state": int(JobState.QUEUED),
        "version": 1,
        "reason": "Submitted",
        "priority": spec.priority,
        "queue_rank": queue_rank(now, spec.priority, new.ageing),
        "submitted_at": now,
        "queue_deadline": now + duration_micros(spec.queue_timeout) if spec.HasField("queue_timeout") else None,
        "has_secrets": new.sealed is not None,
    }
    (number,) = tx.execute(_INSERT, values).inserted_primary_key or (0,)
    record_event(tx, values | {"attempt_number": 0}, Cause.UNSPECIFIED)
    if new.sealed is not None:
        keep_secrets(tx, new.job_id, new.sealed.key_id, new.sealed.data)
    if spec.labels:
        tx.execute(
            insert(job_labels),
            [{"key": key, "value": value, "job_number": number} for key, value in spec.labels.items()],
        )
    return Submitted(new.job_id)


def duration_micros(duration: Duration) -> int:
    """Return a duration in microseconds; what is positive is at least 1 (W40)."""
    micros = duration.seconds * 1_000_000 + duration.nanos // 1000
    return max(micros, 1) if duration.seconds > 0 or duration.nanos > 0 else micros


def logs_expire_at(tx: Transaction, spec: wire.JobSpec, log_ttl_micros: int) -> int:
    """Return when the logs of a job that ends now may go.

    :param log_ttl_micros: where the job itself doesn't say.
    """
    return tx.now + (duration_micros(spec.log_ttl) if spec.HasField("log_ttl") else log_ttl_micros)


@dataclasses.dataclass(frozen=True, slots=True)
class CancelWish:
    """A stop that was asked for.

    :param grace_ms: overrides the job's own; None leaves it.
    """

    job_id: str
    reason: str = ""
    grace_ms: int | None = None


def request_cancel(tx: Transaction, wish: CancelWish, log_ttl: LogTtl) -> RowMapping | None:
    """Store the wish to stop a job; end it at once while it waits in the queue.

    A second wish may only shorten the grace.

    :return: the job's row; None when there is no such job.
    """
    reason = f"Cancelled: {wish.reason}" if wish.reason else "Cancelled"
    outcome = wire.Outcome(state=wire.JOB_STATE_CANCELLED, cause=wire.CAUSE_CANCELLED, message=reason)
    wished = {"cancel_requested_at": tx.now, "cancel_reason": wish.reason}
    if _end_queued(tx, wish.job_id, outcome, log_ttl, wished) is not None:
        return job_row(tx, wish.job_id)
    active = jobs.c.state.in_([int(state) for state in ACTIVE_STATES])
    tx.execute(
        update(jobs)
        .where(jobs.c.job_id == wish.job_id, active, jobs.c.cancel_requested_at.is_(None))
        .values(cancel_requested_at=tx.now, cancel_reason=wish.reason)
    )
    if wish.grace_ms is not None:
        shorter = (jobs.c.cancel_grace_ms.is_(None)) | (jobs.c.cancel_grace_ms > wish.grace_ms)
        tx.execute(
            update(jobs)
            .where(and_(jobs.c.job_id == wish.job_id, active, shorter))
            .values(cancel_grace_ms=wish.grace_ms)
        )
    return job_row(tx, wish.job_id)


def job_row(tx: Transaction, job_id: str) -> RowMapping | None:
    """Return a job's row."""
    return tx.execute(_BY_ID, {"of_job_id": job_id}).mappings().one_or_none()


def expire_queued(tx: Transaction, log_ttl: LogTtl) -> list[RowMapping]:
    """End the jobs that have waited past their queue timeout."""
    late = list(tx.execute(_LATE, {"now": tx.now}).scalars())
    outcome = wire.Outcome(
        state=wire.JOB_STATE_TIMED_OUT, cause=wire.CAUSE_QUEUE_TIMEOUT, message="Waited longer than its queue timeout"
    )
    ended = [_end_queued(tx, job_id, outcome, log_ttl) for job_id in late]
    return [row for row in ended if row is not None]


def _end_queued(
    tx: Transaction, job_id: str, outcome: wire.Outcome, log_ttl: LogTtl, more: Mapping[str, Any] | None = None
) -> RowMapping | None:
    """End a job that waits.

    :param more: columns that change besides.
    :return: its row; None when it doesn't wait any more.
    """
    values = {"ended_at": tx.now, "outcome": outcome.SerializeToString(), **(more or {})}
    row = move(
        tx,
        JobState(outcome.state),
        outcome.message,
        job_id=job_id,
        sources=(JobState.QUEUED,),
        cause=Cause(outcome.cause),
        values=values,
    )
    if row is not None and row["attempt_number"]:
        # It waited for another attempt: those before have left logs.
        spec = wire.JobSpec.FromString(row["spec"])
        expire_at = logs_expire_at(tx, spec, log_ttl(spec.tenant or "default"))
        tx.execute(update(jobs).where(jobs.c.job_id == job_id).values(logs_expire_at=expire_at))
    return row


def note_unfinished(tx: Transaction, reason: str) -> int:
    """Tell something in the history of every job that is not over; return of how many."""
    told = (
        tx.execute(
            update(jobs)
            .where(jobs.c.ended_at.is_(None))
            .values(version=jobs.c.version + 1, reason=reason)
            .returning(*jobs.c)
        )
        .mappings()
        .all()
    )
    for row in told:
        record_event(tx, row, Cause.UNSPECIFIED)
    return len(told)
