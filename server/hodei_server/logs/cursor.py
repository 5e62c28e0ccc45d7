"""A place in a log, and how it moves: all that a follower owns."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence

from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of, make_block
from hodei_logstore.contract import CorruptSegmentError, SegmentKey, SegmentNotFoundError, StoredBlock
from hodei_server.db.segments import WITHOUT_BYTES, Segment, SegmentState
from hodei_server.logs.book import LogBook

#: Read at once where a place is looked for: the index has told that it is near.
FIND_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A stretch whose bytes are not kept any more. `next_sequence` is the first one behind it."""

    first_sequence: int
    next_sequence: int
    size: int
    lines: int
    expired: bool


class Cursor:
    """Reads a log from a sequence on, from memory or from the store.

    :ivar sequence: the next chunk's.
    """

    def __init__(self, book: LogBook, attempt_uid: str, sequence: int = 0) -> None:
        self.sequence = sequence
        self._book = book
        self._attempt_uid = attempt_uid
        self._segments: Sequence[Segment] = ()
        # The segment that was read last, if it changes no more.
        self._whole: Segment | None = None
        # What comes next, on its way: its place, and what the store gives.
        self._coming: tuple[int, asyncio.Task[Sequence[StoredBlock]]] | None = None

    async def read(self, max_bytes: int = 1 << 20) -> Sequence[StoredBlock] | Cut:
        """Return what comes next, or nothing at the durable end, and move behind it."""
        self._whole = None
        log = self._book.get(self._attempt_uid)
        if log is not None:
            if self.sequence >= log.durable:
                return ()
            blocks = log.recent(self.sequence, max_bytes)
            if blocks:
                return self._move(blocks)
        for _ in range(3):
            segment = await self._find()
            if segment is None:
                return ()
            if segment.state in WITHOUT_BYTES:
                return self._pass(segment)
            try:
                blocks = list(await self._from_store(segment, max_bytes))
            except SegmentNotFoundError:
                # Dropped or expired since its row was read.
                self._segments = ()
                continue
            if not blocks and self.sequence < segment.next_sequence and segment.state is not SegmentState.OPEN:
                raise CorruptSegmentError(f"{segment.key} ends before chunk {self.sequence}, its row does not")
            self._whole = segment if segment.state is not SegmentState.OPEN else None
            return self._move(blocks)
        raise SegmentNotFoundError(f"a segment of the log of attempt {self._attempt_uid} has no bytes in the store")

    async def _from_store(self, segment: Segment, max_bytes: int) -> Sequence[StoredBlock]:
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == self.sequence:
            return await coming[1]
        return await self._book.store.read(segment.key, self.sequence, max_bytes=max_bytes)

    def read_ahead(self, max_bytes: int) -> None:
        """Begin to read what comes next, if that is in the segment that was read last and changes no more.

        Whoever calls this calls `close`, too.
        """
        segment = self._whole
        if segment is not None and self._coming is None and self.sequence < segment.next_sequence:
            reading = self._book.store.read(segment.key, self.sequence, max_bytes=max_bytes)
            self._coming = self.sequence, asyncio.ensure_future(reading)

    def close(self) -> None:
        """Let go of what was read ahead."""
        if self._coming is not None:
            (_, reading), self._coming = self._coming, None
            reading.cancel()
            # What has failed is nobody's business any more.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _move(self, blocks: list[StoredBlock]) -> Sequence[StoredBlock]:
        if not blocks:
            return ()
        if blocks[0].first_sequence < self.sequence:
            blocks[0] = trim(blocks[0], self.sequence)
        self.sequence = blocks[-1].next_sequence
        return blocks

    def _pass(self, segment: Segment) -> Cut:
        """Go behind a cut: all segments without bytes that follow each other are one."""
        first, size, lines = segment.first_sequence, 0, 0
        following = [row for row in self._segments if row.first_sequence >= first]
        for row in following:
            if row.state is not segment.state:
                break
            self.sequence = row.next_sequence
            size += row.size
            lines += row.lines
        return Cut(first, self.sequence, size, lines, expired=segment.state is SegmentState.EXPIRED)

    async def _find(self) -> Segment | None:
        for refresh in (False, True):
            if refresh or not self._segments:
                self._segments = await self._book.segments(self._attempt_uid)
            for row in self._segments:
                if row.first_sequence <= self.sequence < row.next_sequence:
                    return row
        return None


def trim(stored: StoredBlock, first: int, end: int | None = None) -> StoredBlock:
    """Return a block without its chunks before `first` and from `end` on; empty when none is left."""
    last = stored.next_sequence if end is None else min(stored.next_sequence, end)
    if first <= stored.first_sequence and last == stored.next_sequence:
        return stored
    chunks = [chunk for chunk in chunks_of(stored.data) if first <= chunk.sequence < last]
    return StoredBlock(first, last, make_block(chunks).data if chunks else b"")


async def find_time(book: LogBook, attempt_uid: str, time_unix_nanos: int) -> int:
    """Return the sequence of the first chunk at or after a time; the next sequence if there is none."""
    sequence = 0
    for segment in await book.segments(attempt_uid):
        sequence = segment.next_sequence
        if not _has_bytes(segment) or segment.last_time < time_unix_nanos:
            continue
        key = SegmentKey(segment.attempt_uid, segment.first_sequence)
        at = await book.store.find_time(key, time_unix_nanos)
        while blocks := await book.store.read(key, at, max_bytes=FIND_BYTES):
            for chunk in (chunk for stored in blocks for chunk in chunks_of(stored.data)):
                if chunk.time_unix_nanos >= time_unix_nanos:
                    return chunk.sequence
            at = blocks[-1].next_sequence
        return at
    return sequence


async def find_tail(
    book: LogBook, attempt_uid: str, lines: int, streams: frozenset[wire.LogStream.ValueType]
) -> tuple[int, int]:
    """Find where the last lines begin. A last line without its newline is one too.

    :param streams: only lines of these count; all when empty.
    :return: a chunk's sequence, and how many of its bytes belong to earlier lines.
    """
    segments = [segment for segment in await book.segments(attempt_uid) if _has_bytes(segment)]
    end = segments[-1].next_sequence if segments else 0
    if lines <= 0:
        return end, 0
    wanted = lines + 1
    while True:
        start, whole = await _roughly(book, segments, wanted)
        newlines, partial = 0, False
        # Counted first and read again where the place is: a tail may be larger than memory.
        async for _, data in _chunks(book, attempt_uid, start, end, streams):
            newlines += data.count(b"\n")
            partial = not data.endswith(b"\n")
        skip = newlines + partial - lines
        if skip > 0:
            return await _behind_newline(_chunks(book, attempt_uid, start, end, streams), skip)
        if whole:
            return start, 0
        wanted *= 4


def _has_bytes(segment: Segment) -> bool:
    """Whether the store has something of a segment: one that has just begun, or stayed empty, it does not know."""
    return segment.state not in WITHOUT_BYTES and segment.next_sequence > segment.first_sequence


async def _roughly(book: LogBook, segments: Sequence[Segment], lines: int) -> tuple[int, bool]:
    """Return a block's sequence with at least `lines` newlines from it on, or the log's start and True."""
    for index in range(len(segments) - 1, -1, -1):
        segment = segments[index]
        start, found = await book.store.find_tail(SegmentKey(segment.attempt_uid, segment.first_sequence), lines)
        if found >= lines:
            return start, index == 0 and start == segment.first_sequence
        lines -= found
    return (segments[0].first_sequence if segments else 0), True


async def _chunks(
    book: LogBook, attempt_uid: str, start: int, end: int, streams: frozenset[wire.LogStream.ValueType]
) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the chunks of some streams, each a sequence and its data; of all when empty."""
    cursor = Cursor(book, attempt_uid, start)
    while cursor.sequence < end:
        piece = await cursor.read()
        if isinstance(piece, Cut):
            continue
        if not piece:
            break
        for chunk in (chunk for stored in piece for chunk in chunks_of(stored.data)):
            if not streams or chunk.stream in streams:
                yield chunk.sequence, chunk.data
        await asyncio.sleep(0)


async def _behind_newline(chunks: AsyncIterator[tuple[int, bytes]], number: int) -> tuple[int, int]:
    """Return the place behind the `number`-th newline."""
    behind = 0
    async for sequence, data in chunks:
        count = data.count(b"\n")
        if count < number:
            number -= count
            behind = sequence + 1
            continue
        place = -1
        for _ in range(number):
            place = data.index(b"\n", place + 1)
        return sequence, place + 1
    return behind, 0
