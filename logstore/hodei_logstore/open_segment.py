"""An open segment's file: what is durable of it, and where in it a place is found."""

from __future__ import annotations

import bisect
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hodei.checksum import add_checksums
from hodei_logstore.contract import Block, CorruptSegmentError, SegmentInfo, SegmentKey, StoredBlock
from hodei_logstore.record import HEADER_BYTES, MAGIC, RecordHeader, decode_header, encode_header, holds_record, matches

#: Bytes of records between two entries of the index, at first.
STRIDE = 64 << 10
#: With more entries, every other one goes and the stride doubles.
MAX_ENTRIES = 4096
#: Bytes read at once when a file is scanned.
SCAN_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A record's place: the first of every stride."""

    sequence: int
    offset: int
    lines_before: int
    first_time: int


class OpenSegment:
    """What is known of an open segment. Changed by the committing thread only, and only for what is durable.

    :ivar length: bytes of the file that are durable.
    :ivar poisoned: why nothing more can be appended before the file has been read again; empty while it can.
    """

    def __init__(self, key: SegmentKey, path: Path) -> None:
        self.key = key
        self.path = path
        self.length = 0
        self.poisoned = ""
        self.sealing = False
        self.info = SegmentInfo(key, key.first_sequence, 0, 0, 0, 0, 0, 0, sealed=False)
        self._entries: list[Entry] = []
        self._stride = STRIDE

    def encode(self, blocks: Sequence[Block]) -> list[bytes]:
        """Return the pieces of bytes that append blocks, the file's magic first if it is new; no block is copied."""
        pieces = [MAGIC] if self.length == 0 else []
        for block in blocks:
            pieces += (encode_header(block), block.data)
        return pieces

    def advance(self, blocks: Sequence[Block], written: int) -> None:
        """Note that blocks are durable, `written` bytes of them."""
        offset = self.length or len(MAGIC)
        for block in blocks:
            self._note(offset, block.first_sequence, block.first_time, self.info.lines)
            offset += HEADER_BYTES + len(block.data)
            self._count(block)
        self.length += written
        # Readers look at `info` only: what they may see is complete once this is assigned.
        self.info = dataclasses.replace(self.info, stored_bytes=self.length)

    def _count(self, block: Block | RecordHeader) -> None:
        info = self.info
        self.info = SegmentInfo(
            key=self.key,
            next_sequence=block.next_sequence,
            size=info.size + block.size,
            lines=info.lines + block.lines,
            first_time=info.first_time or block.first_time,
            last_time=block.last_time,
            checksum=add_checksums(info.checksum, block.checksum),
            stored_bytes=info.stored_bytes,
            sealed=False,
        )

    def _note(self, offset: int, sequence: int, first_time: int, lines_before: int) -> None:
        if self._entries and offset - self._entries[-1].offset < self._stride:
            return
        self._entries.append(Entry(sequence, offset, lines_before, first_time))
        if len(self._entries) > MAX_ENTRIES:
            self._entries = self._entries[::2]
            self._stride *= 2

    @classmethod
    def recover(cls, key: SegmentKey, path: Path) -> OpenSegment:
        """Read a file from its beginning and cut off what is not whole at its end.

        Whole records behind a damaged one are no torn write: they may have been acknowledged. What is cut is then kept
        beside the segment, as ``.damaged``.
        """
        segment = cls(key, path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            segment._learn(descriptor, None)
            _put_aside(descriptor, segment.length, path)
            if segment.length and os.pread(descriptor, len(MAGIC), 0) != MAGIC:
                os.pwrite(descriptor, MAGIC, 0)
            os.ftruncate(descriptor, segment.length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        segment.info = dataclasses.replace(segment.info, stored_bytes=segment.length)
        return segment

    @classmethod
    def closed(cls, key: SegmentKey, path: Path) -> OpenSegment:
        """Read the file of a small segment that is sealed in the form it was open in.

        :raise FileNotFoundError: there is none.
        :raise CorruptSegmentError: it is not whole.
        """
        segment = cls(key, path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            segment._learn(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        segment.info = dataclasses.replace(segment.info, stored_bytes=segment.length, sealed=True)
        return segment

    def _learn(self, descriptor: int, length: int | None) -> None:
        """Note the records there are; see `scan`."""
        for offset, header, _ in scan(descriptor, self.key, length):
            self._note(offset, header.first_sequence, header.first_time, self.info.lines)
            self._count(header)
            self.length = offset + HEADER_BYTES + header.length

    def read(self, sequence: int, max_bytes: int) -> list[StoredBlock]:
        """Read durable blocks from the one that holds a sequence on.

        :raise FileNotFoundError: the segment was sealed or removed in the meantime.
        """
        if sequence >= self.info.next_sequence:
            return []
        entries = self._entries
        place = bisect.bisect_right(entries, sequence, key=lambda entry: entry.sequence) - 1
        start = entries[max(place, 0)].offset
        blocks: list[StoredBlock] = []
        size = 0
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for _, header, data in scan(
                descriptor, self.key, self.length, start, min(max(max_bytes, STRIDE), SCAN_BYTES)
            ):
                if header.next_sequence <= sequence:
                    continue
                blocks.append(StoredBlock(header.first_sequence, header.next_sequence, data))
                size += len(data)
                if size >= max_bytes:
                    break
        finally:
            os.close(descriptor)
        return blocks

    def records(self) -> Iterator[tuple[RecordHeader, bytes]]:
        """Read every durable record."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for _, header, data in scan(descriptor, self.key, self.length):
                yield header, data
        finally:
            os.close(descriptor)

    def find_time(self, time_unix_nanos: int) -> int:
        """Return where a time may begin."""
        if self.info.last_time < time_unix_nanos:
            return self.info.next_sequence
        place = bisect.bisect_left(self._entries, time_unix_nanos, key=lambda entry: entry.first_time) - 1
        return self._entries[max(place, 0)].sequence

    def find_tail(self, lines: int) -> tuple[int, int]:
        """Return where the last lines begin, and how many there are from there on."""
        for entry in reversed(self._entries):
            if self.info.lines - entry.lines_before >= lines:
                return entry.sequence, self.info.lines - entry.lines_before
        return self.key.first_sequence, self.info.lines


def _put_aside(descriptor: int, length: int, path: Path) -> None:
    """Keep what is about to be cut off, if it is more than a torn write."""
    size = os.fstat(descriptor).st_size
    rest = b"".join(os.pread(descriptor, SCAN_BYTES, offset) for offset in range(length, size, SCAN_BYTES))
    if not holds_record(rest):
        return
    with path.with_suffix(".damaged").open("ab") as file:
        file.write(rest)
        file.flush()
        os.fsync(file.fileno())


def scan(
    descriptor: int, key: SegmentKey, length: int | None, start: int | None = None, step: int = SCAN_BYTES
) -> Iterator[tuple[int, RecordHeader, bytes]]:
    """Yield each record's offset, header and block.

    :param length: up to where the file is known to be whole: a damaged record before it is an error. None where that is
        to be found out: the scan ends before the first record that is not whole or does not follow (a torn write).
    :raise CorruptSegmentError: a record that was durable is damaged.
    """
    offset = len(MAGIC) if start is None else start
    known = length is not None
    end = length if length is not None else os.fstat(descriptor).st_size
    # Where it is not known what is whole, the records tell: each has a checksum, the magic has none.
    if known and end and start is None and os.pread(descriptor, len(MAGIC), 0) != MAGIC:
        raise CorruptSegmentError(f"{key}: not a segment's file")
    expected: int | None = key.first_sequence if start is None else None
    buffer, base = b"", offset
    while offset < end:
        inner = offset - base
        header = decode_header(buffer, inner)
        if header is None:
            buffer, base, inner = os.pread(descriptor, min(step, end - offset), offset), offset, 0
            header = decode_header(buffer)
        if header is not None and inner + HEADER_BYTES + header.length > len(buffer):
            wanted = max(step, HEADER_BYTES + header.length)
            buffer, base, inner = os.pread(descriptor, min(wanted, end - offset), offset), offset, 0
        whole = header is not None and matches(header, buffer, inner)
        if header is None or not whole or (expected is not None and header.first_sequence != expected):
            if known:
                raise CorruptSegmentError(f"{key}: the record at byte {offset} is damaged")
            return
        yield offset, header, buffer[inner + HEADER_BYTES : inner + HEADER_BYTES + header.length]
        expected = header.next_sequence
        offset += HEADER_BYTES + header.length
