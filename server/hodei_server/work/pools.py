"""Pools of warm workers: started ahead of the jobs that will need them.

A warm worker has run nothing yet and belongs to no tenant; the first job that takes it binds it to its tenant. The pool
knows of providers only what their contract says, and keeps no state but the database's: what is starting counts (W44),
and a server that starts again finds the pool as it was.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping

import structlog
from sqlalchemy.engine import RowMapping

from hodei_providers.contract import ProviderError
from hodei_server.db.database import Database, Transaction
from hodei_server.db.providers import ProviderState
from hodei_server.db.workers import NewWorker, counts_by_provider, insert_worker, unbound_workers, worker_row
from hodei_server.domain.ids import new_worker_id
from hodei_server.domain.workers import WorkerState
from hodei_server.pool_settings import PoolSettings
from hodei_server.work.fleet import Fleet
from hodei_server.work.placing import NO_TENANT
from hodei_server.work.scheduler import Scheduler

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds without another launch after one has failed: doubled with each failure in a row.
FIRST_BACK_OFF_SECONDS = 1.0
MOST_BACK_OFF_SECONDS = 60.0


class Pools:
    """Keeps each provider's pool filled.

    :param settings: of every provider.
    :param max_jobs: how many jobs a worker may run.
    :param start_timeout: seconds from a worker's launch to its hello.
    """

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        scheduler: Scheduler,
        settings: Mapping[str, PoolSettings],
        *,
        max_jobs: int,
        start_timeout: float,
    ) -> None:
        self.settings = settings
        self._database = database
        self._fleet = fleet
        self._scheduler = scheduler
        self._max_jobs = max_jobs
        self._start_timeout = start_timeout
        self._failures: collections.Counter[str] = collections.Counter()
        self._not_before: dict[str, float] = {}

    @property
    def wanted(self) -> bool:
        """Whether any provider has a pool."""
        return any(pool.min_ready for pool in self.settings.values())

    def kept(self, provider: str) -> int:
        """Return how many warm workers of a provider wait for as long as it takes."""
        pool = self.settings.get(provider)
        enabled = self._scheduler.states.get(provider) is ProviderState.ENABLED
        return pool.min_ready if pool is not None and enabled else 0

    def idle_timeout(self, provider: str) -> float:
        """Return how many seconds any other worker of a provider may wait for a job."""
        pool = self.settings.get(provider)
        return pool.idle_timeout if pool is not None else 0.0

    async def fill(self) -> None:
        """Start what is missing; give up what did not start in time."""
        open_to_more = [name for name in self.settings if self._may_launch(name)]
        started, late = await self._database.write(lambda tx: self._fill(tx, open_to_more))
        for worker_id in started:
            self._fleet.start(self._launch(worker_id), f"launch {worker_id}")
        for row in late:
            self._failed(row["provider"])
            self._fleet.remove_soon(row["worker_id"], "Did not start in time")

    def _may_launch(self, name: str) -> bool:
        if not self.kept(name) or not self._fleet.health[name].healthy or name in self._scheduler.crowded:
            return False
        return time.monotonic() >= self._not_before.get(name, 0.0)

    def _fill(self, tx: Transaction, open_to_more: list[str]) -> tuple[list[str], list[RowMapping]]:
        """Write down the workers that are missing; return their ids, and the workers that are too late."""
        ready: collections.Counter[str] = collections.Counter()
        late: list[RowMapping] = []
        deadline = tx.now - int(self._start_timeout * 1e6)
        for row in unbound_workers(tx):
            if row["state"] == int(WorkerState.STARTING) and row["created_at"] < deadline:
                late.append(row)
            else:
                ready[row["provider"]] += 1
        held = counts_by_provider(tx)
        started: list[str] = []
        for name in open_to_more:
            pool = self.settings[name]
            most = self._fleet.providers[name].capabilities().max_workers
            room = min(most, pool.most or most) - held.get(name, 0)
            for _ in range(min(pool.min_ready - ready[name], room)):
                worker_id = new_worker_id()
                new = NewWorker(worker_id, name, NO_TENANT, b"", "", self._max_jobs, None)
                insert_worker(tx, new)
                started.append(worker_id)
        return started, late

    async def _launch(self, worker_id: str) -> None:
        row = await self._database.read(lambda tx: worker_row(tx, worker_id))
        if row is None:
            raise AssertionError(f"worker {worker_id} was written down before it is launched")
        try:
            await self._fleet.launch(row)
        except ProviderError as error:
            _log.warning("pool.launch_failed", worker_id=worker_id, provider=row["provider"], error=str(error))
            self._failed(row["provider"])
            await self._fleet.remove(worker_id, f"Could not be launched: {error}")
        else:
            self._failures[row["provider"]] = 0

    def _failed(self, provider: str) -> None:
        """Leave a provider alone for a while that could not start a worker."""
        seconds = min(MOST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** min(self._failures[provider], 16))
        self._failures[provider] += 1
        self._not_before[provider] = time.monotonic() + seconds
