"""Which logs may go, and which jobs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, not_, select, text, update

from hodei_server.db.schema import (
    EXPIRING,
    WITHOUT_LOGS,
    attempts,
    beside_key,
    decisions,
    job_events,
    jobs,
    log_segments,
    workers,
)
from hodei_server.db.segments import Place, SegmentState
from hodei_server.db.transaction import Transaction
from hodei_server.domain.workers import WorkerState

#: What belongs to a job ends with its row, but for these.
_DELETE_EVENTS = delete(job_events)
#: States of segments that a log has bytes in.
HELD = (int(SegmentState.OPEN), int(SegmentState.CLOSED), int(SegmentState.SEALED))


def expired_jobs(tx: Transaction, limit: int) -> Sequence[str]:
    """Return ended jobs whose logs have outlived their time; a job that has not ended has no such time."""
    query = select(jobs.c.job_id).where(jobs.c.logs_expire_at <= tx.now).order_by(jobs.c.logs_expire_at).limit(limit)
    return list(tx.execute(query).scalars())


def mark_expired(tx: Transaction, job_ids: Sequence[str]) -> None:
    """Write down that logs may go; their bytes are removed by what `removable_segments` tells."""
    uids = list(tx.execute(select(attempts.c.attempt_uid).where(attempts.c.job_id.in_(list(job_ids)))).scalars())
    columns = log_segments.c
    held = columns.attempt_uid.in_(uids) & beside_key(columns.state).in_(HELD)
    tx.execute(update(log_segments).where(held).values(state=int(SegmentState.EXPIRED)))
    tx.execute(update(attempts).where(attempts.c.attempt_uid.in_(uids)).values(log_expired=True))
    tx.execute(delete(decisions).where(decisions.c.job_id.in_(list(job_ids))))
    tx.execute(update(jobs).where(jobs.c.job_id.in_(list(job_ids))).values(logs_expire_at=None))


def date_jobs(tx: Transaction, ttl_micros: int, limit: int) -> int:
    """Give jobs whose logs have gone, or who never had any, the time when they may go themselves; return how many."""
    found = select(jobs.c.number).where(text(WITHOUT_LOGS)).order_by(jobs.c.ended_at).limit(limit)
    numbers = list(tx.execute(found).scalars())
    tx.execute(update(jobs).where(jobs.c.number.in_(numbers)).values(expires_at=jobs.c.ended_at + ttl_micros))
    return len(numbers)


def remove_jobs(tx: Transaction, limit: int) -> int:
    """Remove all that is known of jobs whose own time has passed, once no bytes of their logs are left.

    :return: how many.
    """
    left = (
        select(attempts.c.job_id)
        .join(log_segments, log_segments.c.attempt_uid == attempts.c.attempt_uid)
        .where(attempts.c.job_id == jobs.c.job_id, log_segments.c.place != int(Place.NOWHERE))
    )
    found = (
        select(jobs.c.job_id)
        .where(text(EXPIRING), jobs.c.expires_at <= tx.now, not_(exists(left)))
        .order_by(jobs.c.expires_at)
        .limit(limit)
    )
    job_ids = list(tx.execute(found).scalars())
    if job_ids:
        theirs = select(attempts.c.worker_id).where(attempts.c.job_id.in_(job_ids))
        gone = beside_key(workers.c.state) == int(WorkerState.GONE)
        tx.execute(delete(workers).where(gone, workers.c.worker_id.in_(theirs)))
        tx.execute(_DELETE_EVENTS.where(job_events.c.job_id.in_(job_ids)))
        tx.execute(delete(jobs).where(jobs.c.job_id.in_(job_ids)))
    return len(job_ids)
