"""Blocks are parsed once, and only what they should be gets through."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.checksum import add_checksums, chunk_checksum, decode_checksum, encode_checksum
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import MAX_CHUNK_BYTES, BlockError, chunks_of, make_block, parse_block


def chunk(sequence: int, data: bytes = b"x\n", **fields: int) -> wire.LogChunk:
    """Return a chunk."""
    values: dict[str, int] = {"time_unix_nanos": 1, "stream": wire.LOG_STREAM_STDOUT, **fields}
    return wire.LogChunk(sequence=sequence, data=data, **values)  # type: ignore[arg-type]  # numbers, as a liar sends them


def encode(*chunks: wire.LogChunk) -> bytes:
    """Return an encoded block."""
    return wire.LogBlock(chunks=chunks).SerializeToString()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "without a chunk"),
        (encode(chunk(0), chunk(2)), "stands where 1 belongs"),
        (encode(chunk(1), chunk(1)), "stands where 2 belongs"),
        (encode(chunk(0, b"x" * (MAX_CHUNK_BYTES + 1))), "more than"),
        (encode(*(chunk(n, b"x" * MAX_CHUNK_BYTES) for n in range(17))), "at most"),
        (encode(chunk(0, stream=0)), "unknown stream"),
        (encode(chunk(0, stream=7)), "unknown stream"),
        (encode(chunk(0, time_unix_nanos=5), chunk(1, time_unix_nanos=4)), "goes back"),
        (encode(chunk(0, time_unix_nanos=-1)), "goes back"),
        (encode(chunk(0)) + b"\x22\x00", "unknown or repeated"),
        (b"\x0a\x04\x08\x00\x18\x01", "unknown or repeated"),
        (encode(chunk(2**64 - 1)), "out of range"),
        (b"\x0a\xff", "no LogBlock"),
    ],
)
def test_what_is_no_block_is_refused(data: bytes, why: str) -> None:
    """A worker can't smuggle anything into a log, such as a forged end."""
    with pytest.raises(BlockError, match=why):
        parse_block(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_block_or_an_error(data: bytes) -> None:
    """Nothing else ever comes of them."""
    try:
        block = parse_block(data)
    except BlockError:
        return
    assert make_block(chunks_of(data)) == block


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8), st.data())
def test_a_cut_block_is_no_block_of_as_many_chunks(pieces: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere, it never passes for the whole."""
    whole = encode(*(chunk(number, piece) for number, piece in enumerate(pieces)))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with contextlib.suppress(BlockError):
        assert parse_block(cut).count < len(pieces)


def test_a_block_is_summed_up() -> None:
    """Counts, times and checksum."""
    data = encode(chunk(3, b"a\nb", time_unix_nanos=10), chunk(4, b"\n", stream=2, time_unix_nanos=20))
    block = parse_block(data)
    assert (block.first_sequence, block.next_sequence, block.size, block.lines) == (3, 5, 4, 2)
    assert (block.first_time, block.last_time, block.data) == (10, 20, data)
    assert block.checksum == add_checksums(chunk_checksum(3, 1, b"a\nb"), chunk_checksum(4, 2, b"\n"))


def test_a_checksum_notices_order_stream_and_bytes() -> None:
    """Each term ties its bytes to their place."""
    terms = {
        chunk_checksum(0, 1, b"a"),
        chunk_checksum(1, 1, b"a"),
        chunk_checksum(0, 2, b"a"),
        chunk_checksum(0, 1, b"b"),
    }
    assert len(terms) == 4
    assert decode_checksum(encode_checksum(max(terms))) == max(terms)
    with pytest.raises(ValueError, match="32 bytes"):
        decode_checksum(b"short")
