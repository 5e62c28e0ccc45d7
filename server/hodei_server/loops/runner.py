"""Runs the loops of a server, each by its name, for as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hodei_logstore.contract import LogStoreError
from hodei_providers.contract import ProviderError
from hodei_server.db.database import DatabaseUnavailableError
from hodei_server.instruments import OUTAGES

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds before a loop that an outage has ended begins again.
OUTAGE_SECONDS = 1.0

Loop = Callable[[], Coroutine[Any, Any, None]]


class LoopRunner:
    """Runs loops.

    :ivar failed: set when one has died; the server is ended then.
    """

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, name: str, loop: Loop) -> None:
        """Run a loop until `stop`."""
        task = asyncio.create_task(_through_outages(name, loop), name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            _log.critical("loop.died", loop=task.get_name(), exc_info=task.exception())
            self.failed.set()

    async def stop(self) -> None:
        """End all of them, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _through_outages(name: str, loop: Loop) -> None:
    """Begin a loop again when the database, the disk or a provider has failed it for a while."""
    while True:
        try:
            await loop()
        except (DatabaseUnavailableError, LogStoreError, ProviderError) as error:
            OUTAGES.labels(name).inc()
            _log.warning("loop.delayed", loop=name, error=str(error))
            await asyncio.sleep(OUTAGE_SECONDS)
