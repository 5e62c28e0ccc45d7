"""What has expired and has not gone yet: what a removal would take, told without removing anything."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

from hodei_logstore.contract import LogStore, SegmentKey
from hodei_server.db.database import Database
from hodei_server.db.expiring import expired_logs, jobs_that_may_go, left_segments
from hodei_server.db.segments import Place, Segment

#: Jobs, or segments, that are looked at in one read of the database.
PAGE = 500


@dataclasses.dataclass(slots=True)
class ExpiredGroup:
    """What of a tenant's has expired on one day.

    :param day: in UTC; None for what was to go before and is left.
    :param jobs: those whose logs would go; `logs`, one of each attempt.
    """

    tenant: str
    day: dt.date | None
    jobs: int = 0
    logs: int = 0
    segments: int = 0
    disk_bytes: int = 0
    s3_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """What would go.

    :param groups: by tenant and day.
    :param jobs: those that would go themselves.
    """

    groups: Sequence[ExpiredGroup]
    jobs: int


class _Groups:
    def __init__(self, disk: LogStore) -> None:
        self._disk = disk
        self._found: dict[tuple[str, dt.date | None], ExpiredGroup] = {}

    def of(self, tenant: str, day: dt.date | None) -> ExpiredGroup:
        """Return a group, new if need be."""
        return self._found.setdefault((tenant, day), ExpiredGroup(tenant, day))

    async def add(self, group: ExpiredGroup, segments: Sequence[Segment]) -> None:
        """Add segments to a group."""
        group.segments += len(segments)
        group.disk_bytes += await self._disk.stored_bytes([each.key for each in segments if each.place & Place.DISK])
        group.s3_bytes += sum(each.stored_bytes for each in segments if each.place & Place.S3)

    def in_order(self) -> list[ExpiredGroup]:
        """Return all groups: a tenant's one after the other, the oldest day first, what is left behind them."""
        return sorted(self._found.values(), key=lambda each: (each.tenant, each.day or dt.date.max))


async def look_ahead(disk: LogStore, database: Database, owner: str, job_ttl: int) -> Preview:
    """Tell what retention would remove now; page by page, as a reader of the database.

    :param owner: whose disk it is.
    :param job_ttl: of jobs, in microseconds.
    """
    groups = _Groups(disk)
    after = (-1, "")
    while page := await database.read(lambda tx, after=after: expired_logs(tx, PAGE, after)):  # type: ignore[misc]
        after = page[-1].expired_at, page[-1].job_id
        held: dict[tuple[str, dt.date | None], list[Segment]] = {}
        for job in page:
            day = dt.datetime.fromtimestamp(job.expired_at / 1e6, dt.UTC).date()
            group = groups.of(job.tenant, day)
            group.jobs += 1
            group.logs += job.logs
            held.setdefault((job.tenant, day), []).extend(job.segments)
        for (tenant, of_day), segments in held.items():
            await groups.add(groups.of(tenant, of_day), segments)
    last = SegmentKey("", -1)
    while left := await database.read(lambda tx, last=last: left_segments(tx, owner, PAGE, last)):  # type: ignore[misc]
        last = left[-1][1].key
        by_tenant: dict[str, list[Segment]] = {}
        for tenant, segment in left:
            by_tenant.setdefault(tenant, []).append(segment)
        for tenant, segments in by_tenant.items():
            await groups.add(groups.of(tenant, None), segments)
    return Preview(groups.in_order(), await database.read(lambda tx: jobs_that_may_go(tx, job_ttl)))
