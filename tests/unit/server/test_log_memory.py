"""What logs hold in memory has a bound, each for itself and all together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hodei_logstore.contract import Append, LogStore, LogStoreError
from hodei_logstore.memory import MemoryLogStore
from hodei_logstore.testing import block
from hodei_server.db.segments import Segment
from hodei_server.logs.figures import Figures
from hodei_server.logs.memory import LogMemory
from hodei_server.logs.open_log import OpenLog

DATA = b"x" * 1000


class StuckStore(MemoryLogStore):
    """A store whose disk has stopped, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()

    async def append(self, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        """Append once the disk goes on."""
        await self.goes_on.wait()
        return await super().append(batch)


def open_log(store: LogStore, uid: str, memory: LogMemory, *, pending_bytes: int = 1 << 20) -> OpenLog:
    """Return an empty log."""

    async def begin_segment(_done: Segment, _first_sequence: int) -> None:
        raise AssertionError("no segment is full here")

    return OpenLog(
        uid,
        store,
        epoch=1,
        segment=Figures(0, 0),
        before=Figures(0, 0),
        begin_segment=begin_segment,
        segment_bytes=1 << 30,
        pending_bytes=pending_bytes,
        recent_bytes=5000,
        memory=memory,
    )


async def write(log: OpenLog, first: int, count: int) -> None:
    """Add so many blocks and wait until they are durable."""
    for number in range(first, first + count):
        log.add(block(number, DATA), 1)
    await log.flush()


async def test_a_log_keeps_its_newest_blocks_and_no_more() -> None:
    """L09: what a slow follower wants is read from the store."""
    memory = LogMemory(1 << 20)
    log = open_log(MemoryLogStore(), "onelog", memory)
    await write(log, 0, 20)
    assert log.recent(0, 1 << 20) is None
    assert memory.held <= 5000 + len(DATA) + 100
    assert (log.recent(19, 1 << 20) or [])[-1].next_sequence == 20
    log.end()
    assert memory.held == 0


async def test_where_all_together_hold_too_much_the_least_lately_written_lose_theirs() -> None:
    """L09, L14: many quiet logs are not many times their share."""
    memory = LogMemory(6000)
    store = MemoryLogStore()
    logs = [open_log(store, f"log{number}", memory) for number in range(10)]
    for log in logs:
        await write(log, 0, 3)
        assert memory.held <= memory.limit
    assert logs[0].recent(0, 1 << 20) is None
    assert len(logs[-1].recent(0, 1 << 20) or []) == 3
    for log in logs:
        log.end()
    assert memory.held == 0


async def test_a_worker_waits_while_its_log_or_all_of_them_hold_too_much() -> None:
    """L14: a disk that has stopped costs the bound and no more; when it goes on, so do the workers."""
    for limit, pending_bytes in ((1 << 20, 2500), (2500, 1 << 20)):
        store = StuckStore()
        memory = LogMemory(limit)
        log = open_log(store, "stuck", memory, pending_bytes=pending_bytes)
        taken = 0

        async def send(log: OpenLog = log) -> None:
            nonlocal taken
            for number in range(10):
                log.add(block(number, DATA), 1)
                taken += 1
                await log.wait_for_room()

        sending = asyncio.create_task(send())
        for _ in range(100):
            await asyncio.sleep(0)
        assert (taken, sending.done()) == (3, False)
        store.goes_on.set()
        await sending
        await log.flush()
        assert log.durable == 10
        log.end()
        assert memory.held == 0


async def test_a_log_that_ends_while_it_is_written_gives_back_what_it_held() -> None:
    """L14: whoever waits for room is woken, and nothing stays counted."""
    store = StuckStore()
    memory = LogMemory(1 << 20)
    log = open_log(store, "ended", memory, pending_bytes=1)
    log.add(block(0, DATA), 1)
    waiting = asyncio.create_task(log.wait_for_room())
    await asyncio.sleep(0)
    log.end()
    await waiting
    store.goes_on.set()
    await log.flush()
    assert memory.held == 0
