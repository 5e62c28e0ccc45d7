"""Answers scrapes: a thread of its own speaks HTTP, the event loop is asked for what is its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from prometheus_client import start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hodei.address import Address
from hodei_server.instruments import REGISTRY
from hodei_server.rpc.listener import ListenerError

#: Seconds after which a scrape is given up: the event loop, or the database, does not answer.
SCRAPE_SECONDS = 10.0


class _Scrape(Collector):
    """What one scrape gets; collected in the thread that answers it."""

    def __init__(self, gather: Callable[[], Awaitable[Iterable[Metric]]]) -> None:
        self._gather = gather
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        asked = asyncio.run_coroutine_threadsafe(self._within(), self._loop)
        return [*REGISTRY.collect(), *asked.result(SCRAPE_SECONDS)]

    async def _within(self) -> Iterable[Metric]:
        async with asyncio.timeout(SCRAPE_SECONDS):
            return await self._gather()


@contextlib.asynccontextmanager
async def serve_metrics(address: Address, gather: Callable[[], Awaitable[Iterable[Metric]]]) -> AsyncIterator[Address]:
    """Serve `/metrics` in plain text until the block is left.

    :param gather: returns what is asked for with each scrape.
    :return: where it is served, port and all.
    :raise ListenerError: the address can't be listened on.
    """
    scrape = _Scrape(gather)
    try:
        # The name may have to be resolved, and binding is quick.
        server, thread = await asyncio.to_thread(start_http_server, address.port, address.host, scrape)
    except OSError as error:
        raise ListenerError(f"HODEI_METRICS_LISTEN: {address} can't be listened on: {error.strerror}") from None
    try:
        yield Address(address.host, server.server_port)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
