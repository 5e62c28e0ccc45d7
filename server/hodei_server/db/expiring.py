"""What has expired and has not gone yet, read page by page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import func, select, text, tuple_

from hodei_logstore.contract import SegmentKey
from hodei_server.db.archive import is_removable
from hodei_server.db.retention import HELD
from hodei_server.db.schema import EXPIRING, WITHOUT_LOGS, attempts, jobs, log_segments
from hodei_server.db.segments import Segment, segment_of
from hodei_server.db.transaction import Transaction


@dataclasses.dataclass(slots=True)
class ExpiredLogs:
    """The logs of a job that may go.

    :param expired_at: microseconds since the epoch.
    :param logs: how many attempts it has.
    """

    job_id: str
    tenant: str
    expired_at: int
    logs: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)


def expired_logs(tx: Transaction, limit: int, after: tuple[int, str]) -> Sequence[ExpiredLogs]:
    """Return a page of ended jobs whose logs have outlived their time, in the order of that.

    :param after: the time and the id of the last job of the page before.
    """
    columns = jobs.c
    query = (
        select(columns.job_id, columns.tenant, columns.logs_expire_at)
        .where(columns.logs_expire_at <= tx.now, tuple_(columns.logs_expire_at, columns.job_id) > after)
        .order_by(columns.logs_expire_at, columns.job_id)
        .limit(limit)
    )
    rows = tx.execute(query).all()
    found = {row.job_id: ExpiredLogs(row.job_id, row.tenant, row.logs_expire_at) for row in rows}
    theirs = attempts.c.job_id.in_(list(found))
    counts = select(attempts.c.job_id, func.count().label("logs")).where(theirs).group_by(attempts.c.job_id)
    for row in tx.execute(counts).mappings():
        found[row["job_id"]].logs = row["logs"]
    held = (
        select(attempts.c.job_id, *log_segments.c)
        .join(log_segments, log_segments.c.attempt_uid == attempts.c.attempt_uid)
        .where(theirs, log_segments.c.state.in_(HELD))
    )
    for row in tx.execute(held).mappings():
        found[row["job_id"]].segments.append(segment_of(row))
    return list(found.values())


def left_segments(tx: Transaction, owner: str, limit: int, after: SegmentKey) -> Sequence[tuple[str, Segment]]:
    """Return a page of segments that are not wanted any more and may still have bytes, each with its tenant.

    :param owner: whose disk counts.
    :param after: the last one of the page before.
    """
    columns = log_segments.c
    query = (
        select(jobs.c.tenant, *columns)
        .join(attempts, attempts.c.attempt_uid == columns.attempt_uid)
        .join(jobs, jobs.c.job_id == attempts.c.job_id)
        .where(is_removable(owner, s3=True))
        .where(tuple_(columns.attempt_uid, columns.first_sequence) > (after.attempt_uid, after.first_sequence))
        .order_by(columns.attempt_uid, columns.first_sequence)
        .limit(limit)
    )
    return [(row["tenant"], segment_of(row)) for row in tx.execute(query).mappings()]


def jobs_that_may_go(tx: Transaction, ttl_micros: int) -> int:
    """Count the jobs that retention would remove now: their own time has passed, and their logs' has, too."""
    old = jobs.c.ended_at + ttl_micros <= tx.now
    conditions = (
        (jobs.c.logs_expire_at <= tx.now, old),
        (text(WITHOUT_LOGS), old),
        (text(EXPIRING), jobs.c.expires_at <= tx.now),
    )
    return sum(tx.execute(select(func.count()).select_from(jobs).where(*each)).scalar_one() for each in conditions)
