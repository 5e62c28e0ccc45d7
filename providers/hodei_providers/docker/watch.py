"""Whose container has ended: told by the engine's events, and by a list from time to time for what they miss."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hodei_providers.contract import ProviderError
from hodei_providers.docker.engine import Engine
from hodei_providers.docker.spec import INSTALLATION_LABEL, WORKER_LABEL

#: Seconds between lists beside the events.
LIST_SECONDS = 15.0
#: Seconds before the engine is asked again after it could not be.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
#: What containers do that is an end.
ENDS = ("die", "destroy")
OVER = frozenset({"exited", "dead", "removing"})


async def watch_containers(engine: Engine, installation_id: str) -> AsyncIterator[str]:
    """Yield workers whose container has ended or is gone, each time that this is seen. Goes on through outages."""
    running: set[str] = set()
    told: set[str] = set()
    failures = 0
    while True:
        try:
            async for worker_id in _one_connection(engine, installation_id, running, told):
                failures = 0
                yield worker_id
        except ProviderError:
            pass
        await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
        failures += 1


async def _one_connection(
    engine: Engine, installation_id: str, running: set[str], told: set[str]
) -> AsyncIterator[str]:
    filters = {"type": ["container"], "event": list(ENDS), "label": [f"{INSTALLATION_LABEL}={installation_id}"]}
    events = engine.events(filters)
    pending = asyncio.ensure_future(anext(events))
    try:
        while True:
            for worker_id in await _ended(engine, installation_id, running, told):
                yield worker_id
            while True:
                done, _ = await asyncio.wait({pending}, timeout=LIST_SECONDS)
                if not done:
                    break
                try:
                    event = pending.result()
                except StopAsyncIteration:
                    return
                pending = asyncio.ensure_future(anext(events))
                worker_id = event.get("Actor", {}).get("Attributes", {}).get(WORKER_LABEL, "")
                if worker_id:
                    running.discard(worker_id)
                    told.add(worker_id)
                    yield worker_id
    finally:
        pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ProviderError):
            await pending
        await events.aclose()  # type: ignore[attr-defined]  # an asynchronous generator has it


async def _ended(engine: Engine, installation_id: str, running: set[str], told: set[str]) -> list[str]:
    """Return the workers that have ended, or are gone, since the last look."""
    rows = await engine.workers(installation_id)
    states = {worker_id: state for worker_id, _, state in rows}
    over = {worker_id for worker_id, state in states.items() if state in OVER}
    gone = running - states.keys()
    news = sorted((over - told) | gone)
    told &= over
    told |= over
    running.clear()
    running |= {worker_id for worker_id, state in states.items() if state == "running"}
    return news
