"""Logs on their way out: those that have expired go, then their jobs; little at a time (L22)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from hodei_logstore.contract import LogStore, StoreUnavailableError
from hodei_logstore.objects import manifest_name, object_name
from hodei_providers.faults import fault_point
from hodei_server.clock_watch import ClockWatch
from hodei_server.db.archive import mark_place, removable_segments
from hodei_server.db.database import Database
from hodei_server.db.retention import date_jobs, expired_jobs, mark_expired, remove_jobs
from hodei_server.db.secrets import erase_ended
from hodei_server.db.segments import Place, SegmentState
from hodei_server.db.transaction import Transaction
from hodei_server.logs.expiring import Preview, look_ahead

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

EXPIRE_BATCH = 100
#: Segments whose bytes are removed at once: a bucket takes as many names in a call.
REMOVE_BATCH = 500
#: Seconds of work in a row, then others have their turn.
TIME_BUDGET = 1.0
_TOLD = ("logs", "segments", "jobs", "disk_bytes", "s3_bytes")


class Objects(Protocol):
    """What is removed from where logs are archived."""

    async def remove_objects(self, names: Sequence[str]) -> None:
        """Remove objects by their names; one that is not there is fine."""


@dataclasses.dataclass(slots=True)
class Removed:
    """What retention has done.

    :param logs: jobs whose logs have expired.
    :param segments: those whose bytes are gone from everywhere.
    :param jobs: those of which nothing is left.
    :param disk_bytes: what was on this server's disk.
    :param s3_bytes: what was in S3.
    :param s3_error: why S3 does not let go of some; empty where it does.
    :param more: the budget was spent before all was done.
    """

    logs: int = 0
    segments: int = 0
    jobs: int = 0
    disk_bytes: int = 0
    s3_bytes: int = 0
    s3_error: str = ""
    more: bool = False


class Retention:
    """Removes what has had its time: from the disk, from the archive and from the database.

    Each step is written down before it is done, and after it: who comes next goes on with it.

    :param disk: where this server's segments are.
    :param owner: this server's id, beside its segments.
    :param job_ttl: seconds that an ended job is kept; not less than its logs.
    :param archive: where segments are, too; None where they are nowhere else.
    """

    def __init__(
        self, disk: LogStore, database: Database, owner: str, *, job_ttl: float, archive: Objects | None = None
    ) -> None:
        self._disk = disk
        self._database = database
        self._owner = owner
        self._job_ttl = int(job_ttl * 1e6)
        self._archive = archive
        self._clock = ClockWatch(database)
        self._turn = asyncio.Lock()

    async def paused(self) -> str:
        """Return why nothing may be removed now, in words; empty where it may."""
        moved = await self._clock.moved_seconds()
        if not moved:
            return ""
        remedy = "set it right, or restart the server and run 'hodei db confirm-clock'"
        return f"the clock was moved by {moved:.0f} s: {remedy}"

    async def preview(self) -> Preview:
        """Tell what `run` would remove, without removing anything."""
        return await look_ahead(self._disk, self._database, self._owner, self._job_ttl)

    async def run(self, budget: float = TIME_BUDGET) -> Removed:
        """Remove what may go, for about `budget` seconds; one caller after the other."""
        async with self._turn:
            removed = await self._run(time.monotonic() + budget)
        if removed.logs or removed.segments or removed.jobs:
            told = dataclasses.asdict(removed)
            _log.info("retention.removed", **{name: told[name] for name in _TOLD})
        return removed

    async def _run(self, deadline: float) -> Removed:
        removed, archived = Removed(), self._archive is not None
        while True:
            logs = await self._expire()
            before = removed.segments
            onward = await self._remove(removed, s3=archived)
            archived = archived and not removed.s3_error
            jobs = await self._remove_jobs()
            removed.logs += logs
            removed.jobs += jobs
            if not (logs or onward or jobs or removed.segments > before):
                return removed
            if time.monotonic() >= deadline:
                removed.more = True
                return removed

    async def _expire(self) -> int:
        found = await self._database.read(lambda tx: expired_jobs(tx, EXPIRE_BATCH))
        if found:
            await self._database.write(lambda tx: mark_expired(tx, found))
            fault_point("retention.marked")
        return len(found)

    async def _remove(self, removed: Removed, *, s3: bool) -> bool:
        """Remove the bytes of a batch of segments.

        What only the disk is said to have is removed from the archive, too: an upload may have been on its way.

        :param removed: what has gone is added to it; and the error of an archive that does not answer. It keeps nothing
            on the disk that may go.
        :param s3: whether the archive is asked.
        :return: whether there may be more to do.
        """
        rows = await self._database.read(lambda tx: removable_segments(tx, self._owner, REMOVE_BATCH, s3=s3))
        here = [each.key for each in rows if each.place & Place.DISK]
        if here:
            removed.disk_bytes += await self._disk.stored_bytes(here)
            await self._disk.remove(here)
            fault_point("retention.removed")
        left = rows if self._archive is not None else []
        failed = False
        if left and self._archive is not None and s3:
            expired = {each.attempt_uid for each in left if each.state is SegmentState.EXPIRED}
            names = [*(object_name(each.key) for each in left), *map(manifest_name, sorted(expired))]
            try:
                await self._archive.remove_objects(names)
            except StoreUnavailableError as error:
                _log.warning("retention.archive_unavailable", error=str(error))
                removed.s3_error = str(error)
                failed = True
            else:
                removed.s3_bytes += sum(each.stored_bytes for each in left if each.place & Place.S3)
                left = []
        done = [] if left else rows

        def note(tx: Transaction) -> None:
            mark_place(tx, done, Place.NOWHERE)
            mark_place(tx, left, Place.S3)

        if rows:
            await self._database.write(note)
        removed.segments += len(done)
        return bool(done or here or failed)

    async def _remove_jobs(self) -> int:
        def remove(tx: Transaction) -> int:
            erase_ended(tx, EXPIRE_BATCH)
            date_jobs(tx, self._job_ttl, EXPIRE_BATCH)
            return remove_jobs(tx, EXPIRE_BATCH)

        return await self._database.write(remove)
