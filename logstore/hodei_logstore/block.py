"""Blocks: encoded `hodei.v1.LogBlock` messages, parsed once when they arrive and passed on as they came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.message import DecodeError

from hodei.checksum import add_checksums, chunk_checksum
from hodei.v1 import log_pb2 as wire
from hodei_logstore.contract import Block

MAX_CHUNK_BYTES = 64 << 10
MAX_BLOCK_BYTES = 1 << 20
#: What the encoding adds to the data of a full block, at most.
_ENCODING_ALLOWANCE = 64 << 10

_STREAMS = frozenset({wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM})


class BlockError(ValueError):
    """An encoded block is not what it claims to be."""


def parse_block(data: bytes, *, attempt: str = "") -> Block:
    """Check an encoded block and tell what is in it.

    Only the one encoding that chunks have is taken: what a decoder would skip (an unknown field) or merge (a field that
    comes twice) could mean something else to the next reader.

    :param attempt: named in the message of an error.
    :raise BlockError: it can't be decoded, has no chunk, a gap, a chunk over 64 KiB, an unknown stream or field, a time
        that is negative or goes back, or is over 1 MiB in all.
    """
    try:
        return _parse(data)
    except BlockError as error:
        if not attempt:
            raise
        raise BlockError(f"attempt {attempt}: {error}") from None


def _parse(data: bytes) -> Block:
    if len(data) > MAX_BLOCK_BYTES + _ENCODING_ALLOWANCE:
        raise BlockError(f"a block has at most {MAX_BLOCK_BYTES} bytes of data, this one is encoded in {len(data)}")
    message = wire.LogBlock()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BlockError("a block that is no LogBlock message") from None
    return _summarize(message.chunks, data)


def _summarize(chunks: Sequence[wire.LogChunk], data: bytes) -> Block:
    if not chunks:
        raise BlockError("a block without a chunk")
    first = chunks[0].sequence
    if first + len(chunks) > 1 << 63:
        raise BlockError(f"sequence {first} is out of range")
    size = encoded = lines = checksum = 0
    last_time = 0
    for sequence, chunk in enumerate(chunks, first):
        content, stream, time = chunk.data, chunk.stream, chunk.time_unix_nanos
        if chunk.sequence != sequence:
            raise BlockError(f"chunk {chunk.sequence} stands where {sequence} belongs")
        if stream not in _STREAMS:
            raise BlockError(f"chunk {sequence} is of the unknown stream {stream}")
        if len(content) > MAX_CHUNK_BYTES:
            raise BlockError(f"chunk {sequence} has {len(content)} bytes, more than {MAX_CHUNK_BYTES}")
        if time < last_time:
            raise BlockError(f"the time of chunk {sequence} goes back")
        last_time = time
        size += len(content)
        encoded += _encoded_size(sequence, time, len(content))
        lines += content.count(b"\n")
        checksum += chunk_checksum(sequence, stream, content)
    if size > MAX_BLOCK_BYTES:
        raise BlockError(f"a block has at most {MAX_BLOCK_BYTES} bytes of data, this one {size}")
    if encoded != len(data):
        raise BlockError("a block with unknown or repeated fields")
    return Block(
        data=data,
        first_sequence=first,
        count=len(chunks),
        size=size,
        lines=lines,
        first_time=chunks[0].time_unix_nanos,
        last_time=last_time,
        checksum=add_checksums(checksum),
    )


def _encoded_size(sequence: int, time: int, length: int) -> int:
    """Return how many bytes a chunk of a known stream takes in a block, in the one (the shortest) encoding.

    Asking protobuf would encode all of it again, which takes longer than everything else here together.
    """
    size = 2 + (1 + _varint_size(sequence) if sequence else 0) + (1 + _varint_size(time) if time else 0)
    if length:
        size += 1 + _varint_size(length) + length
    return 1 + _varint_size(size) + size


def _varint_size(number: int) -> int:
    return (number.bit_length() + 6) // 7


def make_block(chunks: Iterable[wire.LogChunk]) -> Block:
    """Encode chunks as a block.

    :raise BlockError: as `parse_block`.
    """
    message = wire.LogBlock(chunks=chunks)
    return _summarize(message.chunks, message.SerializeToString())


def chunks_of(data: bytes) -> Sequence[wire.LogChunk]:
    """Return the chunks of a block that was checked before."""
    return wire.LogBlock.FromString(data).chunks
