"""A log store that keeps everything in memory, for tests of what uses one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hodei.checksum import add_checksums
from hodei_logstore.contract import (
    Append,
    Block,
    LogStore,
    LogStoreError,
    SegmentInfo,
    SegmentKey,
    SegmentNotFoundError,
    SequenceError,
    StoredBlock,
)


@dataclasses.dataclass(slots=True)
class _Segment:
    blocks: list[Block] = dataclasses.field(default_factory=list)
    sealed: bool = False


class MemoryLogStore(LogStore):
    """Keeps segments in a dictionary; nothing survives it."""

    def __init__(self) -> None:
        self._segments: dict[SegmentKey, _Segment] = {}

    async def append(self, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        """Append blocks."""
        errors: list[LogStoreError | None] = []
        failed: set[SegmentKey] = set()
        for item in batch:
            segment = self._segments.get(item.key) or _Segment()
            expected = segment.blocks[-1].next_sequence if segment.blocks else item.key.first_sequence
            if item.key in failed or segment.sealed or item.block.first_sequence != expected:
                failed.add(item.key)
                errors.append(SequenceError(f"{item.key} does not go on with sequence {item.block.first_sequence}"))
                continue
            segment.blocks.append(item.block)
            self._segments[item.key] = segment
            errors.append(None)
        return errors

    def _get(self, key: SegmentKey) -> _Segment:
        try:
            return self._segments[key]
        except KeyError:
            raise SegmentNotFoundError(f"there is no segment {key}") from None

    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Return blocks from the one that holds `sequence` on."""
        found: list[StoredBlock] = []
        size = 0
        for block in self._get(key).blocks:
            if block.next_sequence <= sequence:
                continue
            found.append(StoredBlock(block.first_sequence, block.next_sequence, block.data))
            size += len(block.data)
            if size >= max_bytes:
                break
        return found

    async def find_time(self, key: SegmentKey, time_unix_nanos: int) -> int:
        """Return the first sequence of the first block that reaches a time."""
        for block in self._get(key).blocks:
            if block.last_time >= time_unix_nanos:
                return block.first_sequence
        return (await self.info(key)).next_sequence

    async def find_tail(self, key: SegmentKey, lines: int) -> tuple[int, int]:
        """Find where the last lines begin."""
        found, first = 0, key.first_sequence
        for block in reversed(self._get(key).blocks):
            found += block.lines
            first = block.first_sequence
            if found >= lines:
                break
        return first, found

    async def info(self, key: SegmentKey) -> SegmentInfo:
        """Tell what a segment amounts to."""
        segment = self._get(key)
        blocks = segment.blocks
        return SegmentInfo(
            key=key,
            next_sequence=blocks[-1].next_sequence,
            size=sum(block.size for block in blocks),
            lines=sum(block.lines for block in blocks),
            first_time=blocks[0].first_time,
            last_time=blocks[-1].last_time,
            checksum=add_checksums(*(block.checksum for block in blocks)),
            stored_bytes=sum(len(block.data) for block in blocks),
            sealed=segment.sealed,
        )

    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close a segment."""
        self._get(key).sealed = True
        return await self.info(key)

    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments."""
        for key in keys:
            self._segments.pop(key, None)

    async def segments(self, after: SegmentKey | None = None, limit: int = 1000) -> Sequence[SegmentKey]:
        """Return what is kept, in order."""
        return [key for key in sorted(self._segments) if after is None or key > after][:limit]
