"""Removals of workers, when several ask for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TypeVar

from sqlalchemy import select

from hodei_providers.contract import Handle, LaunchRequest, Resources
from hodei_providers.memory import MemoryProvider
from hodei_server.db.database import Database
from hodei_server.db.schema import workers
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, insert_workers, said_hello, take_workers
from hodei_server.domain.workers import WorkerState
from hodei_server.logs.changes import Change
from hodei_server.work.background import Background
from hodei_server.work.removals import PARALLEL, Removals
from hodei_server.work.sessions import Sessions

T = TypeVar("T")


class Hung(MemoryProvider):
    """Answers nothing about what is to be removed."""

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """Wait for ever."""
        await asyncio.Event().wait()
        return await super().destroy(handle, grace=grace)


class Stuck(MemoryProvider):
    """Has workers that don't go: the first time it says so at once, then it waits for them.

    :param stuck: ids of these workers.
    :ivar waits: how many it waits for.
    """

    def __init__(self, stuck: Collection[str]) -> None:
        super().__init__()
        self._stuck = stuck
        self._asked: set[str] = set()
        self.waits = 0

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """Say that the worker is still there, or wait for ever."""
        if handle.worker_id not in self._stuck:
            return await super().destroy(handle, grace=grace)
        if handle.worker_id in self._asked:
            self.waits += 1
            await asyncio.Event().wait()
        self._asked.add(handle.worker_id)
        return False


class SlowDatabase(Database):
    """Holds the first write back.

    :ivar asked: set once it is there.
    :ivar go: set by the test.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self._database = database
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def write(self, function: Callable[[Transaction], T]) -> T:
        """Run a write, the first once the test says so."""
        if not self.asked.is_set():
            self.asked.set()
            await self.go.wait()
        return await self._database.write(function)


async def test_who_removes_a_worker_does_not_take_an_idle_ones_refused_removal_for_its_own(database: Database) -> None:
    """W14: the worker was given a job before it was written down that it goes as idle; it is not gone then."""
    provider = MemoryProvider()
    request = LaunchRequest("w1", "installation", "127.0.0.1:1", "otp", Resources(), "", 5)
    await provider.launch(request)

    def idle_worker(tx: Transaction) -> None:
        insert_workers(tx, [NewWorker("w1", "memory", "", b"", "", 5, None)])
        said_hello(tx, "w1")

    await database.write(idle_worker)
    slow = SlowDatabase(database)
    removals = Removals({"memory": provider}, slow, Sessions(), Background(), Change())
    idle = asyncio.create_task(removals.remove("w1", "idle for too long", idle=True))
    await slow.asked.wait()
    assert await database.write(lambda tx: take_workers(tx, [("w1", "uid", "default")]))
    lost = asyncio.create_task(removals.remove("w1", "lost"))
    await asyncio.sleep(0)  # it has joined the other
    slow.go.set()
    assert [await idle, await lost] == [False, True]
    assert not provider.infrastructure
    row = await database.read(lambda tx: tx.execute(select(workers)).mappings().one())
    assert (row["state"], row["removal_reason"]) == (int(WorkerState.GONE), "lost")


async def test_a_provider_that_does_not_answer_keeps_no_others_workers_and_gathers_no_tasks(database: Database) -> None:
    """W28: as many removals as are under way at once wait for it, each asked for again at every look."""
    providers = {"hung": Hung("hung"), "well": MemoryProvider("well")}
    names = [f"w{number}" for number in range(PARALLEL + 1)]

    def workers_of_both(tx: Transaction) -> None:
        for name in names:
            insert_workers(tx, [NewWorker(name, "hung", "", b"", "", 5, None)])
        insert_workers(tx, [NewWorker("other", "well", "", b"", "", 5, None)])

    await database.write(workers_of_both)
    background = Background()
    removals = Removals(providers, database, Sessions(), background, Change())
    before = len(asyncio.all_tasks())
    for _ in range(50):
        for name in names:
            removals.remove_soon(name, "lost")
        await asyncio.sleep(0)
    # Who waits, and the removal itself.
    assert len(asyncio.all_tasks()) - before <= 2 * len(names)
    async with asyncio.timeout(30):
        assert await removals.remove("other", "lost")
    await background.close()


async def test_workers_that_do_not_go_keep_no_others_from_going(database: Database) -> None:
    """W08: as many as there are removals at once are on a node that has been lost."""
    stuck = [f"w{number}" for number in range(PARALLEL)]
    provider = Stuck(stuck)

    def workers_of_it(tx: Transaction) -> None:
        for name in [*stuck, "other"]:
            insert_workers(tx, [NewWorker(name, "memory", "", b"", "", 5, None)])

    await database.write(workers_of_it)
    background = Background()
    removals = Removals({"memory": provider}, database, Sessions(), background, Change())
    for name in stuck:
        removals.remove_soon(name, "lost")
    async with asyncio.timeout(30):
        while provider.waits < PARALLEL:
            await asyncio.sleep(0.01)
        assert await removals.remove("other", "lost")
    await background.close()
