"""Reading a segment wherever it lies, and comparing it with what is written down of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hodei.checksum import add_checksums, chunk_checksum
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of
from hodei_logstore.contract import CorruptSegmentError, LogStore, SegmentKey, SegmentNotFoundError, StoredBlock
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.logs.cursor import trim

_WITHOUT_BYTES = {
    SegmentState.CUT: wire.LOG_VERDICT_CUT,
    SegmentState.EXPIRED: wire.LOG_VERDICT_EXPIRED,
}


class _Sum:
    """What chunks amount to."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.size = self.lines = self.checksum = 0

    def take(self, blocks: list[StoredBlock]) -> None:
        """Add blocks.

        :raise CorruptSegmentError: they do not follow on.
        """
        for chunk in (chunk for stored in blocks for chunk in chunks_of(stored.data)):
            if chunk.sequence != self.sequence:
                raise CorruptSegmentError(f"chunk {chunk.sequence} stands where {self.sequence} belongs")
            self.sequence += 1
            self.size += len(chunk.data)
            self.lines += chunk.data.count(b"\n")
            self.checksum = add_checksums(self.checksum, chunk_checksum(chunk.sequence, chunk.stream, chunk.data))


async def verify_segments(store: LogStore, segments: Sequence[Segment]) -> list[wire.LogSegmentCheck]:
    """Read a log's segments and tell of each whether it is what its figures say.

    :raise LogStoreError: the store can't be asked.
    """
    # All before the first is read: who reads on to the end of one has begun to fetch the next.
    for segment in segments:
        await store.forget(segment.key)
    return [await _verify(store, segment) for segment in segments]


async def _verify(store: LogStore, segment: Segment) -> wire.LogSegmentCheck:
    check = wire.LogSegmentCheck(
        first_sequence=segment.first_sequence, next_sequence=segment.next_sequence, bytes=segment.size
    )
    if segment.state in _WITHOUT_BYTES:
        check.verdict = _WITHOUT_BYTES[segment.state]
        return check
    if segment.next_sequence == segment.first_sequence:
        check.verdict = wire.LOG_VERDICT_OK
        return check
    try:
        check.message = await _difference(store, segment)
    except CorruptSegmentError as error:
        check.message = str(error)
    except SegmentNotFoundError:
        check.verdict, check.message = wire.LOG_VERDICT_MISSING, "the store has no such segment"
        return check
    check.verdict = wire.LOG_VERDICT_CORRUPT if check.message else wire.LOG_VERDICT_OK
    return check


async def _difference(store: LogStore, segment: Segment) -> str:
    """Return in words how a segment's bytes differ from its figures; empty when they don't."""
    key, found = SegmentKey(segment.attempt_uid, segment.first_sequence), _Sum(segment.first_sequence)
    await store.examine(key)
    while found.sequence < segment.next_sequence:
        blocks = await store.read(key, found.sequence)
        if not blocks:
            return f"it ends before chunk {found.sequence}, and should before {segment.next_sequence}"
        wanted = [trim(stored, found.sequence, segment.next_sequence) for stored in blocks]
        await asyncio.to_thread(found.take, [stored for stored in wanted if stored.data])
    if found.checksum != segment.checksum:
        return "its checksum is another"
    if (found.size, found.lines) != (segment.size, segment.lines):
        return f"it has {found.size} bytes and {found.lines} lines in place of {segment.size} and {segment.lines}"
    return ""
