"""Sums chunks up, so that a log can be compared with its receipt."""

from __future__ import annotations

import asyncio

from hodei.checksum import add_checksums, chunk_checksum

#: Data that is summed up on a thread, while the next comes: for less, handing it over takes longer than the sum.
THREAD_BYTES = 64 << 10

Summand = tuple[int, int, bytes]


class ChunkSum:
    """The checksum of chunks; large ones are summed up while the next are on their way, one message's at a time."""

    def __init__(self) -> None:
        self._total = 0
        self._under_way: asyncio.Future[int] | None = None

    async def add(self, chunks: list[Summand]) -> None:
        """Add chunks: of each the sequence, the stream and the data. Waits for those that were added before."""
        await self.total()
        if sum(len(data) for _, _, data in chunks) < THREAD_BYTES:
            self._total = add_checksums(self._total, _sum(chunks))
        else:
            self._under_way = asyncio.get_running_loop().run_in_executor(None, _sum, chunks)

    async def total(self) -> int:
        """Return the checksum of all chunks that were added."""
        if self._under_way is not None:
            self._total = add_checksums(self._total, await self._under_way)
            self._under_way = None
        return self._total


def _sum(chunks: list[Summand]) -> int:
    return add_checksums(*(chunk_checksum(*chunk) for chunk in chunks))
