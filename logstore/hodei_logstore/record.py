"""The bytes of an open segment's file: a magic, then records. docs/log-format.md draws them."""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib

from hodei_logstore.contract import Block, CorruptSegmentError

MAGIC = b"HODEILG1"
# payload length, chunks, first sequence, data bytes, newlines, first time, last time, checksum
_FIELDS = struct.Struct("<IIQIIqq32s")
_CRC = struct.Struct("<I")
#: Every record begins with so many bytes: a CRC-32 over the rest of the header and the payload, then the fields.
HEADER_BYTES = _CRC.size + _FIELDS.size
#: No payload is longer; a length beyond it is not a length.
MAX_PAYLOAD = 4 << 20
#: Where a record may begin: numbers that are not absurd, then a block, whose first field is a chunk.
_PLAUSIBLE = re.compile(rb"(?=.{4}(?:..[\x00-\x3f]\x00){2}.{6}\x00\x00(?:..[\x00-\x3f]\x00){2}.{48}\x0a)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class RecordHeader:
    """What stands before a block, and the CRC that covers both."""

    crc: int
    length: int
    count: int
    first_sequence: int
    size: int
    lines: int
    first_time: int
    last_time: int
    checksum: int

    @property
    def next_sequence(self) -> int:
        """The sequence after the record's last chunk."""
        return self.first_sequence + self.count


def encode_header(block: Block) -> bytes:
    """Return what stands before a block in its record."""
    fields = _FIELDS.pack(
        len(block.data),
        block.count,
        block.first_sequence,
        block.size,
        block.lines,
        block.first_time,
        block.last_time,
        block.checksum.to_bytes(32, "big"),
    )
    return _CRC.pack(zlib.crc32(block.data, zlib.crc32(fields))) + fields


def encode_record(block: Block) -> bytes:
    """Return a block's record."""
    return encode_header(block) + block.data


def decode_header(data: bytes | memoryview, offset: int = 0) -> RecordHeader | None:
    """Read a record's header; None where there is none, or none that can be one."""
    if len(data) - offset < HEADER_BYTES:
        return None
    (crc,) = _CRC.unpack_from(data, offset)
    length, count, first, size, lines, first_time, last_time, checksum = _FIELDS.unpack_from(data, offset + _CRC.size)
    if length > MAX_PAYLOAD or count == 0:
        return None
    return RecordHeader(crc, length, count, first, size, lines, first_time, last_time, int.from_bytes(checksum, "big"))


def matches(header: RecordHeader, data: bytes | memoryview, offset: int = 0) -> bool:
    """Whether the record at an offset is whole and as it was written."""
    end = offset + HEADER_BYTES + header.length
    return end <= len(data) and zlib.crc32(data[offset + _CRC.size : end]) == header.crc


def holds_record(data: bytes) -> bool:
    """Whether a whole record begins anywhere in what is left of a file behind damage."""
    for place in _PLAUSIBLE.finditer(data):
        header = decode_header(data, place.start())
        if header is not None and matches(header, data, place.start()):
            return True
    return False


def payload(header: RecordHeader, data: bytes, offset: int, where: str) -> bytes:
    """Return the block of the record at an offset.

    :param where: named in the message of an error.
    :raise CorruptSegmentError: it is not as it was written.
    """
    if not matches(header, data, offset):
        raise CorruptSegmentError(f"{where}: the record of sequence {header.first_sequence} is damaged")
    start = offset + HEADER_BYTES
    return data[start : start + header.length]
