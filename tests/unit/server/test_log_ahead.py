"""Reading ahead of a reader that reads on, and what goes to it in one message."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of, make_block
from hodei_logstore.contract import Append, SegmentKey, SegmentNotFoundError, StoredBlock
from hodei_logstore.file import FileLogStore
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.logs.book import LogBook, LogSettings
from hodei_server.logs.cursor import Cursor, Cut
from hodei_server.rpc.log_service import block_message

LOG = "onelog"
KEY = SegmentKey(LOG, 0)
BLOCKS = 20


class WatchedStore(FileLogStore):
    """Tells what was read, and fails as often as it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durability="process", small_bytes=0)
        self.reads: list[int] = []
        self.failures = 0

    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Read, or fail as if the segment had just gone."""
        self.reads.append(sequence)
        if self.failures:
            self.failures -= 1
            raise SegmentNotFoundError(f"there is no segment {key}")
        return await super().read(key, sequence, max_bytes=max_bytes)


class OneSegment(LogBook):
    """A book with one log of one segment, which has ended."""

    async def segments(self, attempt_uid: str) -> list[Segment]:
        """Return the one there is."""
        return [Segment(attempt_uid, 0, SegmentState.SEALED, BLOCKS)]


def block_of(sequence: int) -> bytes:
    """Return a block with one chunk of 100 bytes."""
    data = b"%100d" % sequence
    chunk = wire.LogChunk(sequence=sequence, time_unix_nanos=1, stream=wire.LOG_STREAM_STDOUT, data=data)
    return make_block([chunk]).data


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    """Return a store with one sealed segment of twenty blocks, of which it has read nothing yet."""
    async with WatchedStore(tmp_path) as store:
        blocks = [make_block(chunks_of(block_of(number))) for number in range(BLOCKS)]
        assert set(await store.append([Append(KEY, block) for block in blocks])) == {None}
        await store.seal(KEY)
        yield store


@pytest.fixture
async def cursor(store: WatchedStore) -> AsyncIterator[Cursor]:
    """Return a cursor at the beginning of that log."""
    engine = open_engine("sqlite://")
    book = OneSegment(store, Database(engine), "server", LogSettings(segment_bytes=1 << 30))
    with contextlib.closing(Cursor(book, LOG)) as cursor:
        yield cursor
    engine.dispose()


async def take(cursor: Cursor) -> list[bytes]:
    """Return the blocks of the next read of about two."""
    piece = await cursor.read(200)
    assert not isinstance(piece, Cut)
    return [stored.data for stored in piece]


async def test_what_was_read_ahead_comes_next_and_is_read_once(store: WatchedStore, cursor: Cursor) -> None:
    """Its reading begins before anybody asks; where the log ends nothing more is read."""
    found = await take(cursor)
    while True:
        before = len(store.reads)
        cursor.read_ahead(200)
        await asyncio.sleep(0)
        assert len(store.reads) == before + (cursor.sequence < BLOCKS)
        piece = await take(cursor)
        if not piece:
            break
        found += piece
    assert found == [block_of(number) for number in range(BLOCKS)]
    assert len(store.reads) == len(set(store.reads))


async def test_what_failed_when_it_was_read_ahead_is_read_again(store: WatchedStore, cursor: Cursor) -> None:
    """The rows are looked at again, as for any segment that is not where it was."""
    found = await take(cursor)
    store.failures = 1
    cursor.read_ahead(200)
    found += await take(cursor)
    assert found == [block_of(number) for number in range(len(found))]


async def test_nobody_hears_of_what_was_read_ahead_for_a_reader_that_left(
    store: WatchedStore, cursor: Cursor, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a failure nor the blocks."""
    await take(cursor)
    store.failures = 1
    cursor.read_ahead(200)
    await asyncio.sleep(0)
    cursor.close()
    await asyncio.sleep(0)
    gc.collect()
    assert store.failures == 0
    assert not caplog.records


def test_the_blocks_of_a_read_go_in_one_message() -> None:
    """Their chunks are one block's, in order: so many small ones cost one message."""
    message = wire.StreamLogsResponse.FromString(block_message([block_of(0), b"", block_of(1), block_of(2)]))
    assert [chunk.sequence for chunk in message.block.chunks] == [0, 1, 2]
    assert message.block.SerializeToString() == block_of(0) + block_of(1) + block_of(2)
