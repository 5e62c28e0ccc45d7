"""Workers that infrastructure has of this installation and nobody knows of: removed, after a grace (W11, W12)."""

from __future__ import annotations

import asyncio
import time

import structlog

from hodei_providers.contract import Handle, ProviderError
from hodei_server.db.database import Database
from hodei_server.db.workers import live_workers
from hodei_server.work.fleet import Fleet

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEEP_SECONDS = 30.0


class Strays:
    """Remembers since when each stray was seen.

    :param grace: seconds that one is left for: whoever made it may be about to write it down.
    """

    def __init__(self, fleet: Fleet, database: Database, installation_id: str, grace: float) -> None:
        self._fleet = fleet
        self._database = database
        self._installation_id = installation_id
        self._grace = grace
        self._since: dict[tuple[str, str], float] = {}

    async def sweep(self) -> int:
        """Look once at every provider; return how many strays are gone for it."""
        found: dict[tuple[str, str], Handle] = {}
        for name, provider in self._fleet.providers.items():
            try:
                for handle in await provider.list(self._installation_id):
                    found[name, handle.worker_id] = handle
            except ProviderError as error:
                _log.debug("strays.provider_unavailable", provider=name, error=str(error))
        # Asked after: one that is launched in between is known.
        rows = await self._database.read(live_workers)
        # Whichever provider it was launched by: two of them may look at one engine.
        known = {row["worker_id"] for row in rows}
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in found if key[1] not in known}
        removed = 0
        for key, since in list(self._since.items()):
            if now - since >= self._grace:
                removed += await self._remove(key[0], found[key])
        return removed

    async def _remove(self, name: str, handle: Handle) -> bool:
        try:
            gone = await self._fleet.providers[name].destroy(handle)
        except ProviderError as error:
            _log.warning("worker.stray_left", worker_id=handle.worker_id, provider=name, error=str(error))
            return False
        if gone:
            _log.warning("worker.stray_removed", worker_id=handle.worker_id, provider=name)
        return gone


async def stray_loop(strays: Strays, grace: float) -> None:
    """Sweep from time to time."""
    while True:
        await strays.sweep()
        await asyncio.sleep(min(SWEEP_SECONDS, max(grace / 2, 0.1)))
