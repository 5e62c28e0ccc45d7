"""Which logs may go."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from hodei_server.db.database import Transaction
from hodei_server.db.schema import attempts, jobs, log_segments
from hodei_server.db.segments import SegmentState


def expired_jobs(tx: Transaction, limit: int) -> Sequence[str]:
    """Return ended jobs whose logs have outlived their time; a job that has not ended has no such time."""
    query = select(jobs.c.job_id).where(jobs.c.logs_expire_at <= tx.now).order_by(jobs.c.logs_expire_at).limit(limit)
    return list(tx.execute(query).scalars())


def mark_expired(tx: Transaction, job_ids: Sequence[str]) -> list[tuple[str, int]]:
    """Write down that logs are gone; return the segments whose bytes are to be removed."""
    uids = list(tx.execute(select(attempts.c.attempt_uid).where(attempts.c.job_id.in_(list(job_ids)))).scalars())
    columns = log_segments.c
    held = columns.attempt_uid.in_(uids) & columns.state.in_(
        [int(SegmentState.OPEN), int(SegmentState.CLOSED), int(SegmentState.SEALED)]
    )
    keys = [
        (row.attempt_uid, row.first_sequence)
        for row in tx.execute(select(columns.attempt_uid, columns.first_sequence).where(held))
    ]
    tx.execute(update(log_segments).where(held).values(state=int(SegmentState.EXPIRED)))
    tx.execute(update(attempts).where(attempts.c.attempt_uid.in_(uids)).values(log_expired=True))
    tx.execute(update(jobs).where(jobs.c.job_id.in_(list(job_ids))).values(logs_expire_at=None))
    return keys
