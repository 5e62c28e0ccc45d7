"""Logs on their way out: closed segments are compressed, expired logs and jobs removed; little at a time (L22)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from hodei.clock import clock_moved_seconds
from hodei_logstore.contract import (
    CorruptSegmentError,
    LogStore,
    LogStoreError,
    SegmentKey,
    SegmentNotFoundError,
    StorageFullError,
    StoreUnavailableError,
)
from hodei_logstore.objects import manifest_name, object_name
from hodei_server.allocator import give_back
from hodei_server.db.archive import mark_place, removable_segments
from hodei_server.db.database import Database, Transaction
from hodei_server.db.retention import date_jobs, expired_jobs, mark_expired, remove_jobs
from hodei_server.db.segments import Place, SegmentState, closed_segments, is_closed, mark_segments

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEAL_BATCH = 200
SEAL_IDLE_SECONDS = 2.0
#: After a segment of so much log, memory that is free goes back to the system.
LARGE_BYTES = 1 << 20
EXPIRE_BATCH = 100
#: Segments whose bytes are removed at once: a bucket takes as many names in a call.
REMOVE_BATCH = 500
#: The machine's clock may be moved by so much, in seconds, before nothing is removed.
CLOCK_TOLERANCE = 60.0
#: Seconds of work in a row, then others have their turn.
TIME_BUDGET = 1.0
#: Seconds of rest after them.
REST = 4.0


async def sealing_loop(store: LogStore, database: Database, owner: str, *, archived: bool = False) -> None:
    """Compress the segments that nothing is added to any more.

    :param archived: they go on to an archive, which takes one as well that there is no room to compress on the disk.

    One that is not what its row says is told of once, and left as it is for whoever looks into it.
    """
    damaged: set[SegmentKey] = set()
    while True:
        limit = SEAL_BATCH + len(damaged)
        rows = await database.read(lambda tx, limit=limit: closed_segments(tx, owner, limit))  # type: ignore[misc]
        sealed, large = [], False
        for key, next_sequence in rows:
            if key in damaged:
                continue
            try:
                if next_sequence > key.first_sequence:  # an empty log never had bytes
                    large |= await _seal(store, key, next_sequence) >= LARGE_BYTES
            except (CorruptSegmentError, SegmentNotFoundError) as error:
                # One that was dropped or has expired since its row was read is not there for a reason.
                if await database.read(lambda tx, key=key: is_closed(tx, key)):  # type: ignore[misc]
                    _log.error("log.segment_damaged", attempt_uid=key.attempt_uid, error=str(error))
                    damaged.add(key)
            except LogStoreError as error:
                if archived and isinstance(error, StorageFullError):
                    sealed.append((key.attempt_uid, key.first_sequence))
                    continue
                _log.warning("log.seal_failed", attempt_uid=key.attempt_uid, error=str(error))
            else:
                sealed.append((key.attempt_uid, key.first_sequence))
        if sealed:
            await database.write(lambda tx, done=sealed: mark_segments(tx, done, SegmentState.SEALED))  # type: ignore[misc]
        if large:
            await asyncio.to_thread(give_back)
        await asyncio.sleep(0 if len(sealed) == SEAL_BATCH else SEAL_IDLE_SECONDS)


async def _seal(store: LogStore, key: SegmentKey, next_sequence: int) -> int:
    """Seal a segment that ends where its row says; return how many bytes of log it has."""
    info = await store.seal(key)
    if info.next_sequence != next_sequence:
        raise CorruptSegmentError(f"{key} ends before chunk {info.next_sequence}, its row before {next_sequence}")
    return info.size


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
    :param more: the budget was spent before all was done.
    """

    logs: int = 0
    segments: int = 0
    jobs: int = 0
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

    async def run(self, budget: float = TIME_BUDGET) -> Removed:
        """Remove what may go, for about `budget` seconds."""
        removed, deadline = Removed(), time.monotonic() + budget
        archived = self._archive is not None
        while True:
            logs = await self._expire()
            segments, onward, archived = await self._remove(s3=archived)
            jobs = await self._remove_jobs()
            removed.logs += logs
            removed.segments += segments
            removed.jobs += jobs
            if not (logs or onward or jobs):
                break
            if time.monotonic() >= deadline:
                removed.more = True
                break
        if removed.logs or removed.segments or removed.jobs:
            _log.info("retention.removed", logs=removed.logs, segments=removed.segments, jobs=removed.jobs)
        return removed

    async def _expire(self) -> int:
        found = await self._database.read(lambda tx: expired_jobs(tx, EXPIRE_BATCH))
        if found:
            await self._database.write(lambda tx: mark_expired(tx, found))
        return len(found)

    async def _remove(self, *, s3: bool) -> tuple[int, bool, bool]:
        """Remove the bytes of a batch of segments.

        What only the disk is said to have is removed from the archive, too: an upload may have been on its way.

        :param s3: whether the archive is asked; one that does not answer keeps nothing on the disk that may go.
        :return: how many have no bytes left, whether there may be more to do, and whether the archive answers.
        """
        rows = await self._database.read(lambda tx: removable_segments(tx, self._owner, REMOVE_BATCH, s3=s3))
        here = [each for each in rows if each.place & Place.DISK]
        if here:
            await self._disk.remove([each.key for each in here])
        left = rows if self._archive is not None else []
        answers = s3
        try:
            if left and self._archive is not None and s3:
                expired = {each.attempt_uid for each in left if each.state is SegmentState.EXPIRED}
                names = [*(object_name(each.key) for each in left), *map(manifest_name, sorted(expired))]
                await self._archive.remove_objects(names)
                left = []
        except StoreUnavailableError as error:
            _log.warning("retention.archive_unavailable", error=str(error))
            answers = False
        done = [each for each in rows if each not in left]

        def note(tx: Transaction) -> None:
            mark_place(tx, done, Place.NOWHERE)
            mark_place(tx, left, Place.S3)

        await self._database.write(note)
        return len(done), bool(done or here or answers != s3), answers

    async def _remove_jobs(self) -> int:
        await self._database.write(lambda tx: date_jobs(tx, self._job_ttl, EXPIRE_BATCH))
        return await self._database.write(lambda tx: remove_jobs(tx, EXPIRE_BATCH))


async def retention_loop(retention: Retention, interval: float) -> None:
    """Remove the logs of jobs whose time to live has passed since their recorded end (L21), and such jobs.

    A second of work is followed by some of rest, until nothing is left (L22).
    """
    pause = interval
    while True:
        await asyncio.sleep(pause)
        moved = clock_moved_seconds()
        if abs(moved) > CLOCK_TOLERANCE:
            _log.error(
                "retention.paused",
                reason="the machine's clock was moved: restart the server once it is right",
                seconds=round(moved),
            )
            pause = interval
            continue
        removed = await retention.run()
        pause = min(interval, REST) if removed.more else interval
