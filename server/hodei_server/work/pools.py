"""Pools of warm workers: started ahead of the jobs that will need them.

A warm worker has run nothing yet and belongs to no tenant; the first job that takes it binds it to its tenant. The pool
knows of providers only what their contract says. What it holds is in the database: what is starting counts (W44), and a
server that starts again finds the pool as it was. What jobs took of late, which a pool may follow, begins anew.
"""

from __future__ import annotations

import collections
import datetime as dt
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

import structlog
from sqlalchemy.engine import RowMapping

from hodei.clock import steady_time_ns
from hodei.v1 import types_pb2 as wire
from hodei_providers.contract import ProviderError
from hodei_server.db.database import Database
from hodei_server.db.providers import ProviderState
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, counts_by_provider, insert_workers, unbound_workers, worker_row
from hodei_server.domain.blame import Blame
from hodei_server.domain.ids import new_worker_id
from hodei_server.domain.strategies import never
from hodei_server.domain.workers import WorkerState
from hodei_server.settings import SettingsError
from hodei_server.settings.pools import MOST_READY, Pool, PoolSettings
from hodei_server.work.fleet import Fleet
from hodei_server.work.launching import blame_of
from hodei_server.work.placing import NO_TENANT
from hodei_server.work.scheduler import Scheduler

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds without another launch after one has failed: doubled with each failure in a row.
FIRST_BACK_OFF_SECONDS = 1.0
MOST_BACK_OFF_SECONDS = 60.0


#: Jobs that the same workers are for: the provider, the image, the resources as they are encoded.
Kind: TypeAlias = tuple[str, str, bytes]


def kind_of(row: RowMapping) -> Kind:
    """Return for which jobs a worker is."""
    return row["provider"], row["image"], row["resources"]


class Pools:
    """Keeps each provider's pools filled.

    :param settings: of every provider.
    :param max_jobs: how many jobs a worker may run.
    :param start_timeout: seconds from a worker's launch to its hello.
    :raise SettingsError: a pool that its provider could never fill; names the variable and what stands against it.
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
        self._failures: collections.Counter[Kind] = collections.Counter()
        self._not_before: dict[Kind, float] = {}
        self._pools: dict[Kind, Pool] = {
            (name, pool.image, pool.resources): pool for name, each in settings.items() for pool in each.pools
        }
        #: When jobs took a worker, or would have, in monotonic seconds; as far back as their pool looks.
        self._taken: dict[Kind, collections.deque[float]] = {kind: collections.deque() for kind in self._pools}
        scheduler.on_given = self._note_taken
        self._check()

    def _check(self) -> None:
        candidates = {each.name: each for each in self._scheduler.candidates()}
        for (name, image, resources), pool in self._pools.items():
            spec = wire.JobSpec(image=image, resources=wire.Resources.FromString(resources))
            against = never(spec, candidates[name])
            if against is not None:
                raise SettingsError(f"{pool.variable}: provider {name} can't run such workers: {against}")

    def _note_taken(self, provider: str, image: str, resources: bytes) -> None:
        taken = self._taken.get((provider, image, resources))
        if taken is not None and len(taken) < MOST_READY:
            taken.append(time.monotonic())

    @property
    def wanted(self) -> bool:
        """Whether any provider has a pool."""
        return bool(self._pools)

    def kept(self, kind: Kind) -> int:
        """Return how many warm workers wait for as long as it takes, at this moment."""
        pool, taken = self._pools.get(kind), self._taken.get(kind)
        if pool is None or taken is None or not self._enabled(kind[0]):
            return 0
        since = time.monotonic() - pool.follow
        while taken and taken[0] <= since:
            taken.popleft()
        now = dt.datetime.fromtimestamp(steady_time_ns() / 1e9, self.settings[kind[0]].time_zone)
        return pool.ready(now, len(taken))

    def kept_in_all(self, provider: str) -> int:
        """Return the same for all pools of a provider."""
        return sum(self.kept(kind) for kind in self._pools if kind[0] == provider)

    def idle_timeout(self, provider: str) -> float:
        """Return how many seconds any other worker of a provider may wait for a job; none where no job comes."""
        settings = self.settings.get(provider)
        return settings.idle_timeout if settings is not None and self._enabled(provider) else 0.0

    def _enabled(self, provider: str) -> bool:
        return self._scheduler.states.get(provider) is ProviderState.ENABLED

    async def fill(self) -> None:
        """Start what is missing; give up what did not start in time."""
        open_to_more = {kind: count for kind in self._pools if (count := self.kept(kind)) and self._may_launch(kind)}
        now = time.monotonic()
        probed = {name for name, _, _ in open_to_more if self._fleet.breakers[name].half_open(now)}
        started, late = await self._database.write(lambda tx: self._fill(tx, open_to_more, probed))
        for worker_id, provider in started.items():
            self._fleet.breakers[provider].begin(time.monotonic(), self._start_timeout)
            self._fleet.start(self._launch(worker_id), f"launch {worker_id}")
        for row in late:
            # What an image of the pool's own keeps from starting says nothing of the provider.
            self._failed(kind_of(row), Blame.NOTHING if row["image"] else Blame.PROVIDER)
            self._fleet.remove_soon(row["worker_id"], "Did not start in time", idle=True)

    def _may_launch(self, kind: Kind) -> bool:
        if not self._fleet.health[kind[0]].healthy or kind[0] in self._scheduler.crowded:
            return False
        if self._fleet.breakers[kind[0]].refusal(time.monotonic()):
            return False
        return time.monotonic() >= self._not_before.get(kind, 0.0)

    def _fill(
        self, tx: Transaction, open_to_more: Mapping[Kind, int], probed: AbstractSet[str]
    ) -> tuple[dict[str, str], list[RowMapping]]:
        """Write down the workers that are missing; return their ids and providers, and the workers that are too late.

        :param open_to_more: how many are to wait.
        :param probed: providers of which it is to be seen by one launch whether they work again.
        """
        ready: collections.Counter[Kind] = collections.Counter()
        late: list[RowMapping] = []
        deadline = tx.now - int(self._start_timeout * 1e6)
        for row in unbound_workers(tx):
            if row["state"] == int(WorkerState.STARTING) and row["created_at"] < deadline:
                late.append(row)
            else:
                ready[kind_of(row)] += 1
        held = counts_by_provider(tx)
        started: dict[str, str] = {}
        for kind, count in open_to_more.items():
            name, image, resources = kind
            most = self._fleet.providers[name].capabilities().max_workers
            room = min(most, self.settings[name].most or most) - held.get(name, 0)
            if name in probed:
                room = min(room, 0 if name in started.values() else 1)
            for _ in range(min(count - ready[kind], room)):
                worker_id = new_worker_id()
                insert_workers(tx, [NewWorker(worker_id, name, NO_TENANT, resources, image, self._max_jobs, None)])
                held[name] = held.get(name, 0) + 1
                started[worker_id] = name
        return started, late

    async def _launch(self, worker_id: str) -> None:
        row = await self._database.read(lambda tx: worker_row(tx, worker_id))
        if row is None:
            raise AssertionError(f"worker {worker_id} was written down before it is launched")
        try:
            await self._fleet.launch(row)
        except ProviderError as error:
            _log.warning("pool.launch_failed", worker_id=worker_id, provider=row["provider"], error=str(error))
            self._failed(kind_of(row), blame_of(error))
            await self._fleet.remove(worker_id, f"Could not be launched: {error}")
        else:
            self._failures[kind_of(row)] = 0

    def _failed(self, kind: Kind, blame: Blame) -> None:
        """Leave a pool alone for a while whose provider could not start a worker; it counts as any other launch."""
        self._fleet.failed(kind[0], blame)
        seconds = min(MOST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** min(self._failures[kind], 16))
        self._failures[kind] += 1
        self._not_before[kind] = time.monotonic() + seconds
