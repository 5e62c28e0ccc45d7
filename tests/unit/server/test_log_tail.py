"""Where a log's last lines begin."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of, make_block
from hodei_logstore.file import FileLogStore
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.logs.book import LogBook, LogSettings
from hodei_server.logs.cursor import Cursor, Cut, find_tail

LOG = "onelog"
MIB = 1 << 20


@contextlib.asynccontextmanager
async def written(folder: Path, pieces: Sequence[tuple[wire.LogStream.ValueType, bytes]]) -> AsyncIterator[LogBook]:
    """Return a book with one log, a chunk for each piece, sixteen in a block."""
    engine = open_engine("sqlite://")
    async with FileLogStore(folder, durability="process") as store:
        book = LogBook(store, Database(engine), "server", LogSettings(segment_bytes=1 << 30, recent_bytes=0))
        log = book.open_new(LOG, epoch=1, budget=1 << 40)
        for start in range(0, len(pieces), 16):
            chunks = [
                wire.LogChunk(sequence=number, time_unix_nanos=number + 1, stream=stream, data=data)
                for number, (stream, data) in enumerate(pieces[start : start + 16], start)
            ]
            log.add(make_block(chunks), 1)
            await log.flush()
        yield book
    engine.dispose()


async def rest_of(book: LogBook, sequence: int, skip: int, streams: frozenset[wire.LogStream.ValueType]) -> bytes:
    """Return what a reader gets of some streams from a place on."""
    cursor, found = Cursor(book, LOG, sequence), []
    while piece := await cursor.read():
        assert not isinstance(piece, Cut)
        found += [
            chunk.data[skip:] if chunk.sequence == sequence else chunk.data
            for stored in piece
            for chunk in chunks_of(stored.data)
            if not streams or chunk.stream in streams
        ]
    return b"".join(found)


@pytest.mark.parametrize("end", [b"", b"the last one has no end"])
@pytest.mark.parametrize("streams", [frozenset(), frozenset({wire.LOG_STREAM_STDERR})])
async def test_a_tail_has_just_so_many_lines(
    tmp_path: Path, end: bytes, streams: frozenset[wire.LogStream.ValueType]
) -> None:
    """L24: whatever cuts the lines, of one stream or of all, and all there are where more are asked for."""
    pieces = [
        (wire.LOG_STREAM_STDERR if number % 7 == 0 else wire.LOG_STREAM_STDOUT, b"%d\n\nhal" % number + b"f\n" * 3)
        for number in range(300)
    ]
    pieces.append((wire.LOG_STREAM_STDERR, end or b"\n"))
    async with written(tmp_path, pieces) as book:
        whole = b"".join(data for stream, data in pieces if not streams or stream in streams)
        lines = whole.splitlines(keepends=True)
        for count in (0, 1, 2, 5, 90, len(lines) - 1, len(lines), len(lines) + 1, 1 << 40):
            sequence, skip = await find_tail(book, LOG, count, streams)
            assert await rest_of(book, sequence, skip, streams) == b"".join(lines[-count:] if count else [])


async def test_a_tail_is_found_without_the_log_in_memory(tmp_path: Path) -> None:
    """However many lines are asked for: a log may be larger than the machine's memory."""
    data = (b"x" * 63 + b"\n") * 1024
    async with written(tmp_path, [(wire.LOG_STREAM_STDOUT, data)] * 1024) as book:
        tracemalloc.start()
        try:
            assert await find_tail(book, LOG, 1 << 40, frozenset()) == (0, 0)
            assert await find_tail(book, LOG, 1024 * 1023 + 1, frozenset()) == (0, 1023 * 64)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * MIB
