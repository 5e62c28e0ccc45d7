"""A sealed segment's file: zstd frames of whole records, an index, a footer. docs/log-format.md draws them.

    magic | frame | frame | ... | index | footer

Reading from any place takes the footer, the index and the frames that are wanted, however long the segment is.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from hodei.checksum import add_checksums
from hodei_logstore.contract import Block, CorruptSegmentError, SegmentInfo, SegmentKey, StoredBlock
from hodei_logstore.record import HEADER_BYTES, RecordHeader, decode_header, encode_record, payload

MAGIC = b"HODEILS1"
#: Bytes of records in a frame, about.
FRAME_BYTES = 256 << 10
LEVEL = 3

# offset, compressed bytes, raw bytes, CRC-32 of the compressed bytes, first sequence, newlines before it, last time
_ENTRY = struct.Struct("<QIIIQQq")
# entries, CRC-32 of the index, next sequence, data bytes, newlines, first time, last time, checksum, first sequence
_FOOTER = struct.Struct("<IIQQQqq32sQ")
_TAIL = struct.Struct("<I8s")
FOOTER_BYTES = _FOOTER.size + _TAIL.size

Pread = Callable[[int, int], bytes]
Record = tuple[RecordHeader, bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One entry of the index. `last_time` is its last chunk's."""

    offset: int
    length: int
    raw_length: int
    crc: int
    first_sequence: int
    lines_before: int
    last_time: int


@dataclasses.dataclass(frozen=True, slots=True)
class SealedIndex:
    """What a reader knows of a sealed segment; `sequences` are the frames' first ones, for bisection."""

    info: SegmentInfo
    frames: tuple[Frame, ...]
    sequences: tuple[int, ...]

    def frame_of(self, sequence: int) -> int:
        """Return which frame holds a sequence that lies within the segment."""
        return max(bisect.bisect_right(self.sequences, sequence) - 1, 0)

    def find_time(self, time_unix_nanos: int) -> int:
        """Return the first sequence of the first frame that reaches a time; the next sequence if none does."""
        reached = (frame.first_sequence for frame in self.frames if frame.last_time >= time_unix_nanos)
        return next(reached, self.info.next_sequence)

    def find_tail(self, lines: int) -> tuple[int, int]:
        """Return where the last lines begin, and how many there are from there on."""
        for frame in reversed(self.frames):
            if self.info.lines - frame.lines_before >= lines:
                return frame.first_sequence, self.info.lines - frame.lines_before
        return self.info.key.first_sequence, self.info.lines


def write_sealed(path: Path, key: SegmentKey, records: Iterable[Record]) -> SegmentInfo:
    """Write a sealed segment's file; it is not yet durable.

    :param records: each record's header and block, in order.
    """
    with path.open("wb") as file:
        return write_into(file, key, records)


def write_into(file: BinaryIO, key: SegmentKey, records: Iterable[Record]) -> SegmentInfo:
    """Write a sealed segment's bytes into a file that is empty."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    frames: list[Frame] = []
    figures = _Figures(key.first_sequence)
    file.write(MAGIC)
    for raw, first, lines_before in _frames(records, figures):
        data = compressor.compress(raw)
        frames.append(Frame(file.tell(), len(data), len(raw), zlib.crc32(data), first, lines_before, figures.last_time))
        file.write(data)
    index = b"".join(_ENTRY.pack(*dataclasses.astuple(frame)) for frame in frames)
    footer = _FOOTER.pack(
        len(frames),
        zlib.crc32(index),
        figures.next_sequence,
        figures.size,
        figures.lines,
        figures.first_time,
        figures.last_time,
        figures.checksum.to_bytes(32, "big"),
        key.first_sequence,
    )
    file.write(index + footer + _TAIL.pack(zlib.crc32(footer), MAGIC))
    return figures.info(key, file.tell())


@dataclasses.dataclass(slots=True)
class _Figures:
    """What has been written, or read, so far."""

    next_sequence: int
    size: int = 0
    lines: int = 0
    first_time: int = 0
    last_time: int = 0
    checksum: int = 0

    def add(self, header: RecordHeader) -> None:
        if header.first_sequence != self.next_sequence:
            raise CorruptSegmentError(f"sequence {header.first_sequence} stands where {self.next_sequence} belongs")
        if not self.first_time:
            self.first_time = header.first_time
        self.next_sequence = header.next_sequence
        self.size += header.size
        self.lines += header.lines
        self.last_time = header.last_time
        self.checksum = add_checksums(self.checksum, header.checksum)

    def info(self, key: SegmentKey, stored: int) -> SegmentInfo:
        return SegmentInfo(
            key=key,
            next_sequence=self.next_sequence,
            size=self.size,
            lines=self.lines,
            first_time=self.first_time,
            last_time=self.last_time,
            checksum=self.checksum,
            stored_bytes=stored,
            sealed=True,
        )


def _frames(records: Iterable[Record], figures: _Figures) -> Iterator[tuple[bytes, int, int]]:
    """Yield each frame's records, first sequence and the newlines before it."""
    parts: list[bytes] = []
    size, first, lines_before = 0, figures.next_sequence, 0
    for header, data in records:
        figures.add(header)
        record = encode_record(
            Block(
                data,
                header.first_sequence,
                header.count,
                header.size,
                header.lines,
                header.first_time,
                header.last_time,
                header.checksum,
            )
        )
        parts.append(record)
        size += len(record)
        if size >= FRAME_BYTES:
            yield b"".join(parts), first, lines_before
            parts, size, first, lines_before = [], 0, figures.next_sequence, figures.lines
    if parts:
        yield b"".join(parts), first, lines_before


def read_index(pread: Pread, length: int, key: SegmentKey) -> SealedIndex:
    """Read a sealed segment's footer and index.

    :param pread: reads (offset, bytes) of the file.
    :param length: the file's.
    :raise CorruptSegmentError: they are not as they were written.
    """
    tail = pread(max(length - FOOTER_BYTES, 0), FOOTER_BYTES)
    if len(tail) < FOOTER_BYTES:
        raise CorruptSegmentError(f"the sealed segment {key} is cut off")
    footer = tail[: _FOOTER.size]
    crc, magic = _TAIL.unpack_from(tail, _FOOTER.size)
    if magic != MAGIC or crc != zlib.crc32(footer):
        raise CorruptSegmentError(f"the sealed segment {key} has a damaged footer")
    entries, index_crc, next_sequence, size, lines, first_time, last_time, checksum, first = _FOOTER.unpack(footer)
    if first != key.first_sequence:
        raise CorruptSegmentError(f"the sealed segment {key} holds another one, which begins with sequence {first}")
    start = length - FOOTER_BYTES - entries * _ENTRY.size
    if start < len(MAGIC):
        raise CorruptSegmentError(f"the sealed segment {key} is cut off")
    index = pread(start, entries * _ENTRY.size) if entries else b""
    if zlib.crc32(index) != index_crc:
        raise CorruptSegmentError(f"the sealed segment {key} has a damaged index")
    frames = tuple(Frame(*values) for values in _ENTRY.iter_unpack(index))
    info = SegmentInfo(
        key, next_sequence, size, lines, first_time, last_time, int.from_bytes(checksum, "big"), length, sealed=True
    )
    return SealedIndex(info, frames, tuple(frame.first_sequence for frame in frames))


def read_frame(pread: Pread, frame: Frame, key: SegmentKey, *, compare: bool = False) -> list[Record]:
    """Read one frame's records.

    :param compare: each record with its own CRC-32, too. Who reads need not: the frame's, of its compressed bytes,
        speaks for all that is in it, and the records were compared when the segment was sealed.
    :raise CorruptSegmentError: it is not as it was written.
    """
    raw = _unpack(pread, frame, key)
    records, offset = [], 0
    while (header := decode_header(raw, offset)) is not None:
        start = offset + HEADER_BYTES
        data = payload(header, raw, offset, str(key)) if compare else raw[start : start + header.length]
        records.append((header, data))
        offset = start + header.length
    if offset != len(raw):
        raise CorruptSegmentError(f"the sealed segment {key} is cut off in the frame at {frame.first_sequence}")
    return records


def _unpack(pread: Pread, frame: Frame, key: SegmentKey) -> bytes:
    data = pread(frame.offset, frame.length)
    if zlib.crc32(data) != frame.crc:
        raise CorruptSegmentError(f"the sealed segment {key} has a damaged frame at sequence {frame.first_sequence}")
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=frame.raw_length)
    except zstandard.ZstdError as error:
        where = f"the sealed segment {key} at sequence {frame.first_sequence}"
        raise CorruptSegmentError(f"{where} can't be unpacked: {error}") from None


def read_blocks(pread: Pread, index: SealedIndex, sequence: int, max_bytes: int) -> list[StoredBlock]:
    """Read the block that holds a sequence and those behind it, up to about `max_bytes`: whole frames if one fits."""
    blocks: list[StoredBlock] = []
    size = 0
    for frame in index.frames[index.frame_of(sequence) :]:
        if blocks and size + frame.raw_length // 2 > max_bytes:
            return blocks
        for header, data in read_frame(pread, frame, index.info.key):
            if header.next_sequence <= sequence:
                continue
            blocks.append(StoredBlock(header.first_sequence, header.next_sequence, data))
            size += len(data)
            if size >= max_bytes:
                return blocks
    return blocks


def check_start(pread: Pread, index: SealedIndex) -> None:
    """Look at the bytes before the first frame, which no read needs.

    :raise CorruptSegmentError: they are not as they were written.
    """
    if pread(0, len(MAGIC)) != MAGIC:
        raise CorruptSegmentError(f"the sealed segment {index.info.key} does not begin as one")


def verify(pread: Pread, index: SealedIndex) -> None:
    """Read a sealed segment whole and compare it with its footer.

    :raise CorruptSegmentError: they differ.
    """
    check_start(pread, index)
    figures = _Figures(index.info.key.first_sequence)
    for frame in index.frames:
        for header, _ in read_frame(pread, frame, index.info.key, compare=True):
            figures.add(header)
    if figures.info(index.info.key, index.info.stored_bytes) != index.info:
        raise CorruptSegmentError(f"the sealed segment {index.info.key} does not hold what its footer says")


def fingerprint(pread: Pread, index: SealedIndex) -> int:
    """Return the CRC-32 of a sealed segment's whole file, each frame compared with its own on the way.

    :raise CorruptSegmentError: they differ.
    """
    crc, end = zlib.crc32(pread(0, len(MAGIC))), len(MAGIC)
    for frame in index.frames:
        data = pread(frame.offset, frame.length)
        if frame.offset != end or zlib.crc32(data) != frame.crc:
            raise CorruptSegmentError(
                f"the sealed segment {index.info.key} has a damaged frame at sequence {frame.first_sequence}"
            )
        crc, end = zlib.crc32(data, crc), end + frame.length
    return zlib.crc32(pread(end, index.info.stored_bytes - end), crc)


def pread_of(descriptor: int) -> Pread:
    """Return a reader of an open file."""

    def pread(offset: int, size: int) -> bytes:
        return os.pread(descriptor, size, offset)

    return pread
