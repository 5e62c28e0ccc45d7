"""The checksum of what a client has read."""

from __future__ import annotations

import pytest

from hodei.checksum import add_checksums, chunk_checksum
from hodei_client.summing import THREAD_BYTES, ChunkSum


@pytest.mark.parametrize("size", [1, THREAD_BYTES // 2, THREAD_BYTES])
async def test_chunks_are_summed_up_wherever_that_is_done(size: int) -> None:
    """Small ones at once, large ones on a thread; the last ones are waited for."""
    messages = [[(number, 1, b"x" * size), (number + 1, 2, b"y" * size)] for number in range(0, 10, 2)]
    found = ChunkSum()
    for chunks in messages:
        await found.add(chunks)
    wanted = add_checksums(*(chunk_checksum(*chunk) for chunks in messages for chunk in chunks))
    assert await found.total() == await found.total() == wanted
