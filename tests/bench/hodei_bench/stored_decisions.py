"""What whole decisions cost, as the server makes them: with the database, and nothing is launched."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import insert, update

from hodei.v1 import types_pb2 as wire
from hodei_bench.databases import is_missing, postgresql
from hodei_bench.decisions import FEW, MANY, PROVIDERS
from hodei_bench.harness import Result, Setup, bench
from hodei_providers.memory import MemoryProvider
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.schema import workers
from hodei_server.db.schema_version import upgrade
from hodei_server.db.transaction import Transaction
from hodei_server.domain.ids import new_attempt_uid, new_job_id, new_worker_id
from hodei_server.domain.workers import WorkerState
from hodei_server.work.fleet import Fleet, FleetSettings
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.scheduler_settings import SchedulerSettings
from hodei_server.work.sessions import Sessions

#: Workers that a provider may have; one place is free at each look.
WORKERS = 50
TENANTS = [f"t{number}" for number in range(10)]


class Queue:
    """A server's scheduler and database: all workers but one of each provider are busy, and jobs wait.

    :param queued: how many wait at each look.
    """

    def __init__(self, database: Database, queued: int) -> None:
        self._database = database
        self._queued = queued
        self._waiting = 0
        self._tenants = itertools.cycle(TENANTS)
        self._given: list[str] = []
        providers = {f"p{n}": MemoryProvider(f"p{n}", max_workers=WORKERS) for n in range(PROVIDERS)}
        fleet = Fleet(providers, database, Sessions(), FleetSettings("bench", {}, 60.0, 10.0))
        attempts = types.SimpleNamespace(begin=self._begin)
        settings = SchedulerSettings("most-capacity", 60.0, 10.0, 600.0, 1, "server")
        self._scheduler = Scheduler(database, fleet, Sessions(), cast("Any", attempts), settings)
        # What follows a decision is no part of it.
        self._scheduler.launch = lambda live: None  # type: ignore[method-assign]  # noqa: ARG005 - its name

    def _begin(self, _row: Any, _uid: str, provider: str, worker_id: str) -> Any:
        self._given.append(worker_id)
        return types.SimpleNamespace(provider=provider, spec=wire.JobSpec())

    async def fill(self) -> None:
        """Have workers be busy."""
        rows = [
            {
                "worker_id": new_worker_id(),
                "provider": f"p{provider}",
                "tenant": next(self._tenants),
                "state": int(WorkerState.BUSY),
                "resources": b"",
                "max_jobs": 1,
                "attempt_uid": new_attempt_uid(),
                "created_at": 0,
            }
            for provider in range(PROVIDERS)
            for _ in range(WORKERS - 1)
        ]
        await self._database.write(lambda tx: tx.connection.execute(insert(workers), rows))

    async def submit(self) -> None:
        """Submit jobs until as many wait as are to."""
        missing, self._waiting = self._queued - self._waiting, self._queued
        new = [
            NewJob(new_job_id(), wire.JobSpec(argv=["true"], tenant=tenant), "anonymous")
            for tenant in itertools.islice(self._tenants, missing)
        ]

        def write(tx: Transaction) -> None:
            for job in new:
                insert_job(tx, job)

        await self._database.write(write)

    async def rate(self, looks: int) -> float:
        """Look so often in a row; return how many jobs are given out a second of these looks."""
        given, took = 0, 0.0
        await self.submit()
        for _ in range(looks):
            if self._waiting < PROVIDERS:
                await self.submit()
            began = time.perf_counter()
            count = await self._scheduler.dispatch()
            took += time.perf_counter() - began
            given += count
            self._waiting -= count
            # They end, and their workers with them.
            gone, self._given = self._given, []
            statement = update(workers).where(workers.c.worker_id.in_(gone)).values(state=int(WorkerState.GONE))
            await self._database.write(lambda tx, statement=statement: tx.connection.execute(statement))  # type: ignore[misc]
        return given / took


@contextlib.asynccontextmanager
async def opened(url: str, durability: str, queued: int) -> AsyncIterator[Queue]:
    """Open a database, and have jobs wait in it."""
    engine = open_engine(url, cast("Literal['power', 'process']", durability))
    upgrade(engine)
    async with Database(engine) as database:
        queue = Queue(database, queued)
        await queue.fill()
        await queue.submit()
        if engine.dialect.name == "postgresql":
            # As its own autovacuum would do, in a minute.
            await database.write(lambda tx: tx.connection.exec_driver_sql("ANALYZE"))
        yield queue


async def measured(urls: Iterator[str], setup: Setup, name: str, note: str) -> list[Result]:
    """Look at a short queue and a long one by turns; what else the machine does meets both."""
    times, looks = (2, 2) if setup.short else (7, 10)
    rates: dict[int, list[float]] = {FEW: [], MANY: []}
    async with contextlib.AsyncExitStack() as stack:
        queues = {
            queued: await stack.enter_async_context(opened(next(urls), setup.durability, queued)) for queued in rates
        }
        for _ in range(times):
            for queued, queue in queues.items():
                rates[queued].append(await queue.rate(looks))
    few, many = (statistics.median(each) for each in rates.values())
    return [
        Result(f"{name}.{FEW}-waiting", few, "/s", more_is_better=True, aim=1000, note=note),
        Result(f"{name}.{MANY}-waiting", many, "/s", more_is_better=True, aim=1000, note=note),
        Result(
            f"{name}.flat",
            many,
            "/s",
            more_is_better=True,
            peer=few,
            peer_name=f"the same with {FEW} jobs waiting",
            aim=0.8,
            aim_of="ratio",
            note=f"{MANY:,} jobs waiting",
        ),
    ]


NOTE = (
    f"{PROVIDERS} providers with {WORKERS} workers each, all busy but one of each at every look; ten tenants; wall "
    "time of a look: the queue is read, places are chosen, jobs, attempts, workers and decisions are written and "
    "committed"
)


@bench("decisions-stored", durable=True)
async def stored(setup: Setup) -> list[Result]:
    """Whole decisions as the server makes them, with the database."""
    folders = (Path(setup.folder) / f"hodei{number}.db" for number in itertools.count())
    return await measured((f"sqlite:///{path}" for path in folders), setup, "decisions-stored", NOTE)


@bench("decisions-postgresql", durable=True)
async def on_postgresql(setup: Setup) -> list[Result]:
    """Whole decisions as the server makes them, on PostgreSQL."""
    if is_missing("decisions-postgresql"):
        return []
    with postgresql() as short, postgresql() as long:
        return await measured(iter((short, long)), setup, "decisions-postgresql", NOTE)
