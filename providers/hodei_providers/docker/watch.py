"""Whose container has ended: told by the engine's events, and by a list from time to time for what they miss."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from hodei_providers.contract import ProviderError
from hodei_providers.docker.engine import Engine
from hodei_providers.docker.spec import WORKER_LABEL

#: Seconds between lists beside the events.
LIST_SECONDS = 15.0
#: Seconds before the engine is asked again after it could not be.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
#: What containers do that is an end.
ENDS = ("die", "destroy")
#: States of a container that runs no more.
OVER = frozenset({"exited", "dead", "removing"})
#: That of one that is about to be started; where it still is at the next list, nobody will.
MADE = "created"


class ContainerWatch:
    """Watches the containers that have some labels, ``key=value`` each."""

    def __init__(self, engine: Engine, labels: Sequence[str]) -> None:
        self._engine = engine
        self._labels = list(labels)
        self._running: set[str] = set()
        self._told: set[str] = set()
        self._made: set[str] = set()

    def again(self, worker_id: str) -> None:
        """Tell of a worker again at the next list."""
        self._told.discard(worker_id)
        self._running.add(worker_id)

    async def ended(self) -> AsyncIterator[str]:
        """Yield workers whose container may have ended or be gone; some twice. Goes on through outages."""
        failures = 0
        while True:
            try:
                async for worker_id in self._one_connection():
                    failures = 0
                    yield worker_id
            except ProviderError:
                pass
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _one_connection(self) -> AsyncIterator[str]:
        events = self._engine.events({"type": ["container"], "event": list(ENDS), "label": self._labels})
        pending = asyncio.ensure_future(anext(events))
        try:
            while True:
                for worker_id in await self._list():
                    yield worker_id
                due = time.monotonic() + LIST_SECONDS
                while (left := due - time.monotonic()) > 0:
                    done, _ = await asyncio.wait({pending}, timeout=left)
                    if not done:
                        break
                    try:
                        event = pending.result()
                    except StopAsyncIteration:
                        return
                    pending = asyncio.ensure_future(anext(events))
                    worker_id = event.get("Actor", {}).get("Attributes", {}).get(WORKER_LABEL, "")
                    if worker_id:
                        yield worker_id
        finally:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ProviderError):
                await pending
            await events.aclose()  # type: ignore[attr-defined]  # an asynchronous generator has it

    async def _list(self) -> list[str]:
        """Return the workers that have ended, or are gone, since the last look."""
        states = {worker_id: state for worker_id, _, state in await self._engine.workers(self._labels)}
        made = {worker_id for worker_id, state in states.items() if state == MADE}
        over = {worker_id for worker_id, state in states.items() if state in OVER} | (made & self._made)
        news = sorted((over - self._told) | (self._running - states.keys()))
        self._told, self._made = over, made
        self._running = set(states) - over - made
        return news
