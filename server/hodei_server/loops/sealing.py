"""Closed segments are compressed, and so made ready for the archive."""

from __future__ import annotations

import asyncio

import structlog

from hodei_logstore.contract import (
    CorruptSegmentError,
    LogStore,
    LogStoreError,
    SegmentKey,
    SegmentNotFoundError,
    StorageFullError,
)
from hodei_server.allocator import give_back
from hodei_server.db.database import Database
from hodei_server.db.segments import SegmentState, closed_segments, is_closed, mark_segments

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SEAL_BATCH = 200
SEAL_IDLE_SECONDS = 2.0
#: After a segment of so much log, memory that is free goes back to the system.
LARGE_BYTES = 1 << 20


async def sealing_loop(store: LogStore, database: Database, owner: str, *, archived: bool = False) -> None:
    """Compress the segments that nothing is added to any more.

    One that is not what its row says is told of once, and left as it is for whoever looks into it.

    :param archived: they go on to an archive, which takes one as well that there is no room to compress on the disk.
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
