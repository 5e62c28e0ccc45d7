"""Logs on their way out: closed segments are compressed, expired logs removed; little at a time (L22)."""

from __future__ import annotations

import asyncio
import time

import structlog

from hodei.clock import clock_moved_seconds
from hodei_logstore.contract import CorruptSegmentError, LogStore, LogStoreError, SegmentKey, SegmentNotFoundError
from hodei_server.allocator import give_back
from hodei_server.db.database import Database
from hodei_server.db.retention import expired_jobs, mark_expired
from hodei_server.db.segments import SegmentState, closed_segments, is_closed, mark_segments

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEAL_BATCH = 200
SEAL_IDLE_SECONDS = 2.0
#: After a segment of so much log, memory that is free goes back to the system.
LARGE_BYTES = 1 << 20
EXPIRE_BATCH = 100
#: The machine's clock may be moved by so much, in seconds, before nothing is removed.
CLOCK_TOLERANCE = 60.0
#: Seconds of work in a row, then others have their turn.
TIME_BUDGET = 1.0


async def sealing_loop(store: LogStore, database: Database, owner: str) -> None:
    """Compress the segments that nothing is added to any more.

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


async def retention_loop(store: LogStore, database: Database, interval: float) -> None:
    """Remove the logs of jobs whose time to live has passed since their recorded end (L21)."""
    while True:
        await asyncio.sleep(interval)
        moved = clock_moved_seconds()
        if abs(moved) > CLOCK_TOLERANCE:
            _log.error(
                "retention.paused",
                reason="the machine's clock was moved: restart the server once it is right",
                seconds=round(moved),
            )
            continue
        await expire(store, database)


async def expire(store: LogStore, database: Database) -> int:
    """Remove expired logs, for as long as the time budget allows; return of how many jobs."""
    began, removed = time.monotonic(), 0
    while time.monotonic() - began < TIME_BUDGET:
        found = await database.read(lambda tx: expired_jobs(tx, EXPIRE_BATCH))
        if not found:
            break
        # First written down, then done: what a crash leaves behind has no row that promises it.
        keys = await database.write(lambda tx, jobs=found: mark_expired(tx, jobs))  # type: ignore[misc]
        await store.remove([SegmentKey(*key) for key in keys])
        removed += len(found)
    if removed:
        _log.info("retention.removed", jobs=removed)
    return removed
