"""Rids providers of workers that are done: written down first, tried until it is confirmed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog

from hodei_providers.contract import Handle, Provider, ProviderError
from hodei_server.db.database import Database
from hodei_server.db.workers import begin_removal, confirm_removal
from hodei_server.logs.changes import Change
from hodei_server.work.background import Background
from hodei_server.work.sessions import Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Removals under way at once, of each provider; and as many of workers that were still there after the first try.
PARALLEL = 16
#: Seconds between attempts to remove a worker that is not gone yet.
REMOVAL_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Seconds that a worker which should end by itself is left to do so.
OWN_END_SECONDS = 5.0


class Removals:
    """Removes workers, each once however many ask for it.

    :param room: moves when a worker is gone.
    :ivar out_of_reach: workers that are to be removed, and of which nobody could say the last time whether they are
        gone: why not. Their provider could not be asked, or has lost sight of them.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        database: Database,
        sessions: Sessions,
        background: Background,
        room: Change,
    ) -> None:
        self.out_of_reach: dict[str, str] = {}
        self._providers = providers
        self._database = database
        self._sessions = sessions
        self._background = background
        self._room = room
        # Each its own: one that does not answer keeps no other's workers from going.
        self._slots = {name: asyncio.Semaphore(PARALLEL) for name in providers}
        # A provider waits for a worker to go: many that don't, as their node has been lost, keep no others from going.
        self._stuck_slots = {name: asyncio.Semaphore(PARALLEL) for name in providers}
        self._removing: dict[str, asyncio.Task[bool]] = {}
        #: What was asked for in the background and has not come to its end, and whether of an idle worker.
        self._asked: set[tuple[str, bool]] = set()

    async def remove(
        self, worker_id: str, reason: str, *, leave_time: bool = False, idle: bool = False, provider: str = ""
    ) -> bool:
        """Remove a worker and all it started, trying until it is confirmed; end its session first.

        Return only once it is gone, whoever has begun to remove it.

        :param leave_time: the worker is done and ends by itself: give it a moment.
        :param idle: only if it still has no attempt.
        :param provider: where it is looked for if the database does not know it, or takes it for gone.
        :return: whether there was something to remove.
        """
        while (others := self._removing.get(worker_id)) is not None:
            # One that was refused, as the worker is idle no more, has not removed it for those who don't mind.
            if await asyncio.shield(others) or idle:
                return others.result()
        task = asyncio.create_task(
            self._remove(worker_id, reason, leave_time=leave_time, idle=idle, provider=provider),
            name=f"remove {worker_id}",
        )
        self._removing[worker_id] = task
        task.add_done_callback(lambda _: self._removing.pop(worker_id, None))
        self._background.keep(task)
        return await asyncio.shield(task)

    async def _remove(self, worker_id: str, reason: str, *, leave_time: bool, idle: bool, provider: str) -> bool:
        row: Mapping[Any, Any] | None
        row = await self._database.persist(lambda tx: begin_removal(tx, worker_id, reason, idle=idle))
        if row is None:
            if not provider:
                return False
            row = {"provider": provider, "handle": None}
        session = self._sessions.get(worker_id)
        if session is not None and not leave_time:
            session.close(reason)
        await self._destroy(worker_id, row, OWN_END_SECONDS if leave_time else 0.0)
        await self._database.persist(lambda tx: confirm_removal(tx, worker_id))
        session = self._sessions.get(worker_id)
        if session is not None:
            session.close(reason)
        self._sessions.forget(worker_id)
        _log.info("worker.gone", worker_id=worker_id, provider=row["provider"], reason=reason)
        self._room.moved()
        return True

    async def _destroy(self, worker_id: str, row: Mapping[Any, Any], grace: float) -> None:
        provider = self._providers.get(row["provider"])
        attempt = 0
        slots = self._slots
        while provider is not None:
            handle = Handle(worker_id, json.loads(row["handle"]) if row["handle"] else {})
            try:
                async with slots[row["provider"]]:
                    gone = await provider.destroy(handle, grace=grace)
                    lost = not gone and (await provider.describe(handle)).unconfirmed
                self.out_of_reach.pop(worker_id, None)
                if gone:
                    return
                slots = self._stuck_slots
                if lost:
                    self.out_of_reach[worker_id] = f"provider {provider.name} has lost sight of it: it may run on there"
            except ProviderError as error:
                why = f"provider {provider.name} can't be reached to confirm that it is gone"
                self.out_of_reach[worker_id] = why
                _log.warning("worker.removal_failed", worker_id=worker_id, error=str(error))
            await asyncio.sleep(REMOVAL_RETRY_SECONDS[min(attempt, len(REMOVAL_RETRY_SECONDS) - 1)])
            attempt += 1

    def remove_soon(self, worker_id: str, reason: str, *, leave_time: bool = False, idle: bool = False) -> None:
        """Remove a worker in the background; see `remove`. It may be asked for again and again: once is enough."""
        if (worker_id, idle) in self._asked:
            return
        self._asked.add((worker_id, idle))
        task = asyncio.create_task(self.remove(worker_id, reason, leave_time=leave_time, idle=idle))
        task.add_done_callback(lambda _: self._asked.discard((worker_id, idle)))
        self._background.keep(task)

    async def remove_all(self, installation_id: str) -> None:
        """Remove every worker of an installation: nobody will come back for them."""

        async def remove(name: str, handle: Handle) -> None:
            for seconds in REMOVAL_RETRY_SECONDS:
                async with self._slots[name]:
                    if await self._providers[name].destroy(handle):
                        return
                await asyncio.sleep(seconds)

        for name, provider in self._providers.items():
            try:
                handles = await provider.list(installation_id)
                await asyncio.gather(*(remove(name, handle) for handle in handles))
            except ProviderError as error:
                _log.warning("workers.left", provider=name, error=str(error))
