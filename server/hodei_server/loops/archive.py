"""Sealed segments go from the disk to S3, little at a time, and leave the disk once they are there.

Nothing is remembered but in the rows: upload, see that it is there, name it in the manifest, note it, remove the disk's
copy, note that. Whoever is killed between two steps does the last one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import operator
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from hodei_logstore.contract import (
    CorruptSegmentError,
    LogStoreError,
    SegmentInfo,
    SegmentKey,
    SegmentNotFoundError,
    SequenceError,
    StorageFullError,
    StoreUnavailableError,
)
from hodei_logstore.s3 import Archived, S3LogStore
from hodei_logstore.s3.recent import Recent
from hodei_server.db.archive import mark_archived, mark_place, waiting_segments
from hodei_server.db.database import Database
from hodei_server.db.segments import Place, Segment, SegmentState, segments_of
from hodei_server.logs.book import LogBook
from hodei_server.logs.manifest import manifest

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Segments that are looked at at once.
BATCH = 64
#: Damaged ones that are passed over; where there are more, the oldest are looked at, and told, again.
MAX_DAMAGED = 1000
IDLE_SECONDS = 2.0
#: Seconds before a bucket that failed is tried again, at first; then twice as long each time, up to the second.
RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
#: Seconds between two words about a bucket that still fails.
REMIND_SECONDS = 60.0
#: Seconds between two questions whether the bucket is there, where nothing else tells.
ASK_SECONDS = 60.0
#: The name under which grpc.health.v1 tells how the archive is.
HEALTH_SERVICE = "hodei.archive"


class ArchiveHealth:
    """Whether S3 takes and gives what it is asked for; said once when that changes, and now and then while it fails.

    :ivar error: why not; empty while all is well.
    """

    def __init__(self, told: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
        self.error = ""
        self._told = told
        self._since = 0.0
        self._reminded = 0.0

    async def failed(self, error: LogStoreError) -> None:
        """Note a failure."""
        now = time.monotonic()
        first = not self.error
        self.error = str(error)
        if first:
            self._since = now
        if first or now - self._reminded >= REMIND_SECONDS:
            self._reminded = now
            _log.error("archive.failing", error=self.error, seconds=round(now - self._since))
        if first:
            await self._told(False)  # noqa: FBT003 - the shape of what is told

    async def worked(self) -> None:
        """Note a success."""
        if self.error:
            _log.warning("archive.recovered", after=self.error, seconds=round(time.monotonic() - self._since))
            self.error = ""
            await self._told(True)  # noqa: FBT003 - the same


class Archiver:
    """Brings segments to S3.

    :param owner: whose disk is emptied.
    """

    def __init__(self, store: S3LogStore, database: Database, owner: str) -> None:
        self._store = store
        self._database = database
        self._owner = owner
        self._damaged: Recent[SegmentKey, bool] = Recent(MAX_DAMAGED)

    async def run_once(self) -> int:
        """Move what waits, up to a batch; return how many segments have left the disk.

        :raise StoreUnavailableError: S3 fails; what was moved before is noted.
        """
        limit = BATCH + self._damaged.held
        waiting = await self._database.read(lambda tx: waiting_segments(tx, self._owner, limit))
        waiting = [each for each in waiting if not self._damaged.get(each.key)]
        logs = [list(group) for _, group in itertools.groupby(waiting, operator.attrgetter("attempt_uid"))]
        outcomes = await asyncio.gather(*(self._move_log(log) for log in logs), return_exceptions=True)
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        for failure in failures:
            if not isinstance(failure, StoreUnavailableError):
                raise failure
        if failures:
            raise failures[0]
        return sum(each for each in outcomes if isinstance(each, int))

    async def ask(self) -> None:
        """See whether the bucket answers.

        :raise StoreUnavailableError: it does not.
        """
        await self._store.objects(limit=1)

    async def reconnect(self) -> None:
        """Begin anew with S3: its credentials may have been renewed since."""
        await self._store.reconnect()

    async def _move_log(self, waiting: Sequence[Segment]) -> int:
        """Move segments of one log."""
        empty = [each for each in waiting if each.next_sequence == each.first_sequence]
        new = [each for each in waiting if each.place is Place.DISK and each not in empty]
        try:
            outcomes = await asyncio.gather(*(self._upload(each) for each in new), return_exceptions=True)
            stored = [each for each in outcomes if isinstance(each, Segment)]
            if stored or empty:
                stored = await self._note(waiting[0].attempt_uid, stored)
        finally:
            if empty:
                await self._database.write(lambda tx: mark_place(tx, empty, Place.NOWHERE))
        moved = [each for each in waiting if each.place is not Place.DISK] + stored
        for each in moved:
            await self._drop(each.key)
        await self._database.write(lambda tx: mark_place(tx, moved, Place.S3))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(moved)

    async def _drop(self, key: SegmentKey) -> None:
        try:
            await self._store.drop(key)
        except SequenceError:
            # It went from its open form, as a full disk had no room to seal it, and the server was started again since.
            with contextlib.suppress(StorageFullError):
                await self._store.seal(key)
            await self._store.drop(key)

    async def _upload(self, segment: Segment) -> Segment | None:
        """Upload one; None when it can't be what its row says, which is told once."""
        try:
            archived = await self._archive(segment.key)
            must_match(segment, archived.info)
        except (CorruptSegmentError, SegmentNotFoundError) as error:
            rows = await self._database.read(lambda tx: segments_of(tx, segment.attempt_uid))
            if any(each.key == segment.key and each.state is SegmentState.SEALED for each in rows):
                _log.error("log.segment_damaged", attempt_uid=segment.attempt_uid, error=str(error))
                self._damaged.put(segment.key, value=True)
            return None
        return dataclasses.replace(segment, stored_bytes=archived.info.stored_bytes)

    async def _archive(self, key: SegmentKey) -> Archived:
        try:
            return await self._store.archive(key)
        except SegmentNotFoundError:
            # A full disk had no room to seal it, and the server was started again since: it goes from its open form.
            with contextlib.suppress(StorageFullError):
                await self._store.seal(key)
            return await self._store.archive(key)

    async def _note(self, attempt_uid: str, stored: Sequence[Segment]) -> list[Segment]:
        """Name segments in their log's manifest, then in the database; return those that are still wanted.

        Those that were dropped or have expired while they were uploaded are removed with all that is not wanted.
        """
        told = await self._database.read(lambda tx: manifest(tx, attempt_uid, stored))
        if any(each["object"] for each in told["segments"]):  # a log without output has none, and leaves nothing
            await self._store.write_manifest(attempt_uid, told)
        gone = await self._database.write(lambda tx: mark_archived(tx, stored))
        return [each for each in stored if each not in gone]


def must_match(segment: Segment, info: SegmentInfo) -> None:
    """See that a segment is what its row says.

    :raise CorruptSegmentError: it is not.
    """
    if (info.next_sequence, info.checksum) != (segment.next_sequence, segment.checksum):
        raise CorruptSegmentError(f"{segment.key} is not the segment that its row describes")


async def archive_loop(archiver: Archiver, health: ArchiveHealth) -> None:
    """Move segments whenever there are some; back off while S3 fails."""
    pause, asked = RETRY_SECONDS, -ASK_SECONDS
    while True:
        try:
            moved = await archiver.run_once()
            if not moved and (health.error or time.monotonic() - asked >= ASK_SECONDS):
                await archiver.ask()
                asked = time.monotonic()
            await health.worked()
        except StoreUnavailableError as error:
            await health.failed(error)
            await asyncio.sleep(pause)
            await archiver.reconnect()
            pause = min(2 * pause, MAX_RETRY_SECONDS)
            continue
        pause = RETRY_SECONDS
        if not moved:
            await asyncio.sleep(IDLE_SECONDS)


async def rolling_loop(book: LogBook, age: float) -> None:
    """End segments of running jobs that have grown for long enough, so that they can go to S3 (`age` in seconds)."""
    while True:
        await asyncio.sleep(min(age / 4, 30.0))
        book.roll_older_than(age)
