"""Leases: whether silent workers are still there. Silence alone decides nothing: the provider is asked (W19)."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Sequence

from sqlalchemy.engine import RowMapping

from hodei_providers.contract import Description, WorkerPhase
from hodei_server.db.database import Database
from hodei_server.db.workers import live_workers, touch, worker_row
from hodei_server.domain.states import Cause
from hodei_server.domain.workers import WorkerState
from hodei_server.loops.presence import Presence
from hodei_server.rpc.worker_service import WorkerService
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import LiveAttempt
from hodei_server.work.losses import cause_of_loss
from hodei_server.work.placing import NO_TENANT
from hodei_server.work.pools import Kind, Pools, kind_of
from hodei_server.work.sessions import Sessions

#: Seconds beyond those after which a worker has ended its job by itself, before that is relied on.
ORPHAN_MARGIN = 10.0


class Leases:
    """Judges workers that are not connected, and attempts whose worker is not there any more.

    :param database: holds the workers.
    :param lease: seconds of silence after which a worker's provider is asked.
    :param orphan_after: seconds of silence after which a worker has ended its job by itself.
    :param pools: say how long workers may wait for a job.
    :param presence: a lease doesn't run while the server was not there to hear.
    """

    def __init__(
        self,
        attempts: Attempts,
        fleet: Fleet,
        sessions: Sessions,
        database: Database,
        *,
        lease: float,
        orphan_after: float,
        pools: Pools,
        presence: Presence,
    ) -> None:
        self._attempts = attempts
        self._fleet = fleet
        self._sessions = sessions
        self._database = database
        self._lease = lease
        self._orphan_after = orphan_after
        self._pools = pools
        self.presence = presence
        self._idle_since: dict[str, float] = {}

    async def check(self, rows: Sequence[RowMapping]) -> None:
        """Look at every worker and every attempt once.

        :param rows: the workers that are not gone.
        """
        idle: dict[str, float] = {}
        silent: dict[str, list[RowMapping]] = {}
        warm: collections.Counter[Kind] = collections.Counter()
        for row in rows:
            worker_id = row["worker_id"]
            if row["removal_reason"] is not None:
                self._check_removed(row)
                continue
            connected = self._sessions.get(worker_id) is not None
            if connected and row["state"] == int(WorkerState.IDLE):
                provider = row["provider"]
                idle[worker_id] = self._idle_since.get(worker_id, time.monotonic())
                if row["tenant"] == NO_TENANT:
                    kind = kind_of(row)
                    warm[kind] += 1
                    if warm[kind] <= self._pools.kept(kind):
                        continue
                if time.monotonic() - idle[worker_id] > self._pools.idle_timeout(provider):
                    self._fleet.remove_soon(worker_id, "Has waited for a job for too long", leave_time=True, idle=True)
            elif not connected:
                silent.setdefault(row["provider"], []).append(row)
        self._idle_since = idle
        # One provider that is slow to answer keeps nobody waiting for the others.
        await asyncio.gather(*(self._check_each(workers) for workers in silent.values()))
        known = {row["worker_id"] for row in rows}
        for live in self._attempts.live:
            if live.worker_id not in known and not live.losing and live.result is None:
                await self._check_unknown(live)

    def _check_removed(self, row: RowMapping) -> None:
        """Go on with a removal; and see to the attempt of a worker that somebody removes with it."""
        worker_id = row["worker_id"]
        self._fleet.remove_soon(worker_id, row["removal_reason"])
        live = self._attempts.live.of_worker(worker_id)
        if live is None or live.result is not None:
            return
        if not live.losing:
            self._attempts.lose_soon(live, Cause.WORKER_LOST, f"The worker is removed: {row['removal_reason']}")
        elif worker_id in self._fleet.removals.out_of_reach and self._harmless(row):
            live.given_up.set()

    def _harmless(self, row: RowMapping) -> bool:
        """Whether a worker that is being removed can't run its job, wherever it is.

        It is let in no more. So it never gets a job that it did not get before; and one that it got it has ended
        itself after so long a silence.
        """
        if row["hello_at"] is None:
            return True
        silent = self._sessions.silent_for(row["worker_id"], self.presence.since())
        return self._sessions.get(row["worker_id"]) is None and silent > self._orphan_after + ORPHAN_MARGIN

    async def _check_unknown(self, live: LiveAttempt) -> None:
        """Give an attempt up whose worker is gone, or was removed from the database (W11)."""
        # Asked anew: it may have been written down since (W03).
        row = await self._database.read(lambda tx: worker_row(tx, live.worker_id))
        if row is None or row["state"] == int(WorkerState.GONE):
            self._attempts.lose_soon(live, Cause.WORKER_LOST, "The worker was removed")

    async def _check_each(self, rows: Sequence[RowMapping]) -> None:
        for row in rows:
            await self._check_silent(row)

    async def _check_silent(self, row: RowMapping) -> None:
        worker_id = row["worker_id"]
        silent = self._sessions.silent_for(worker_id, self.presence.since())
        if silent < self._lease or (row["state"] == int(WorkerState.STARTING) and row["registered_at"] is None):
            return
        description = await self._fleet.describe(worker_id, row["provider"])
        # Asked while it may have come back, or registered: only what is still so counts (W03).
        if self._sessions.get(worker_id) is None:
            silent = self._sessions.silent_for(worker_id, self.presence.since())
            self.judge(description, silent, begun=row["hello_at"] is not None)

    async def heard(self, description: Description) -> None:
        """Act on what a provider tells by itself of a worker that has ended, or never will start."""
        begun = True
        if description.unconfirmed:
            row = await self._database.read(lambda tx: worker_row(tx, description.handle.worker_id))
            begun = row is None or row["hello_at"] is not None
        self.judge(description, 0.0, begun=begun)

    def judge(self, description: Description, silent: float, *, begun: bool) -> None:
        """Act on what a provider says of a worker that is not connected, or of the end of one that is.

        :param silent: seconds since the worker was heard of.
        :param begun: it may have got a job: it has said hello.
        """
        worker_id = description.handle.worker_id
        live = self._attempts.live.of_worker(worker_id)
        gone = description.phase in {WorkerPhase.EXITED, WorkerPhase.MISSING} or description.permanent
        if not gone and silent < self._orphan_after:
            return
        unseen = description.unconfirmed and begun and live is not None
        if gone and unseen and silent <= self._orphan_after + ORPHAN_MARGIN:
            return  # nobody has seen it end: its job may run on, until it has had no server for that long
        message = f"The worker is gone: {description.message}" if gone else "The worker was silent for too long"
        if live is None:
            self._fleet.remove_soon(worker_id, message)
        elif live.result is not None:
            if gone and self._sessions.get(worker_id) is None:
                live.worker_gone.set()
        else:
            self._attempts.lose_soon(live, cause_of_loss(description, started=live.started), message)


async def ping_loop(service: WorkerService, presence: Presence, interval: float) -> None:
    """Ping workers, every `interval` seconds, whatever else waits for a provider."""
    while True:
        await asyncio.sleep(interval)
        service.ping_all(presence.since())


async def lease_loop(leases: Leases, sessions: Sessions, database: Database, interval: float) -> None:
    """Note which workers were heard of, and judge the silent ones.

    :param interval: seconds between pings.
    """
    noted = time.monotonic()
    while True:
        await asyncio.sleep(min(1.0, interval))
        now = time.monotonic()
        if now - noted >= 3 * interval:
            noted = now
            heard = sorted(sessions.connected())
            if heard:
                await database.write(lambda tx, heard=heard: touch(tx, heard))  # type: ignore[misc]
        await leases.check(await database.read(live_workers))


async def watch_loop(
    provider_name: str, fleet: Fleet, leases: Leases, sessions: Sessions, installation_id: str
) -> None:
    """Hear from a provider of workers that ended, sooner than their silence tells.

    What it misses, the leases find.
    """
    provider = fleet.providers[provider_name]
    async for description in provider.watch(installation_id):
        # A worker that ends in order says so on its connection, which is still being read.
        for _ in range(50):
            if sessions.get(description.handle.worker_id) is None:
                break
            await asyncio.sleep(0.1)
        if description.phase is not WorkerPhase.PENDING:
            await leases.heard(description)
            continue
        # What would never start may have started since: only what is still so counts (W03).
        newest = await fleet.describe(description.handle.worker_id, provider_name, description.handle)
        if sessions.get(description.handle.worker_id) is None:
            await leases.heard(newest)
