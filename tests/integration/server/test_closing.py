"""A client that is closed is gone: no connection of it is left, whatever became of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable, Iterator

import pytest

from hodei_client import Client, ClientSettings, HodeiError
from hodei_faults import FaultyProxy, descriptors
from hodei_server.app import Server


async def follow(client: Client, job: str) -> None:
    """Read a log to its end."""
    async for _ in client.logs(job):
        pass


async def ask(client: Client, job: str) -> None:
    """Ask for a job."""
    await client.get(job)


async def search(client: Client, job: str) -> None:
    """Search a log to its end."""
    async for _ in client.search(job, "x", follow=True):
        pass


async def verify(client: Client, job: str) -> None:
    """Have a log verified."""
    async for _ in client.verify_logs(job):
        pass


async def follow_for_a_while(client: Client, job: str) -> None:
    """Leave a log half-way."""
    async for _ in client.logs(job):
        break


async def wait(client: Client, job: str) -> None:
    """Wait for a job that has ended."""
    await client.wait(job)


async def fail(client: Client, _job: str) -> None:
    """Ask for what there is not: once, followed, watched."""
    for call in (client.get("nosuch"), client.wait("nosuch"), follow(client, "nosuch")):
        with contextlib.suppress(HodeiError):
            await call


async def give_up(client: Client, _job: str) -> None:
    """Wait for a job that goes on, and lose patience."""
    job = await client.submit(["sleep", "600"])
    for call in (client.wait(job), follow(client, job)):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await call
    await client.cancel(job, force=True)


async def disconnected(server: Server) -> None:
    """Wait until nothing of this process is connected to a server's listener for clients."""
    connection = f"port {server.address.port}, established"
    async with asyncio.timeout(30):
        while any(connection in each for each in descriptors(os.getpid())):
            await asyncio.sleep(0.02)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep the garbage collector from covering things up."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("use", [follow, follow_for_a_while, wait, fail, give_up])
@pytest.mark.usefixtures("no_collector")
async def test_a_closed_client_leaves_no_connection(
    server: Server, use: Callable[[Client, str], Awaitable[None]]
) -> None:
    """L10: streams that were read, left or failed don't keep their connection until the garbage collector comes by."""
    settings = ClientSettings(server.address)
    async with Client(settings=settings) as client:
        job = await client.submit(["echo", "x"])
        await client.wait(job)
        await use(client, job)
    await disconnected(server)


@pytest.mark.parametrize("use", [ask, wait, follow, search])
@pytest.mark.usefixtures("no_collector")
async def test_a_cancelled_call_that_somebody_keeps_does_not_keep_its_connection(
    server: Server, use: Callable[[Client, str], Awaitable[None]]
) -> None:
    """L10: the task that was cancelled, and so where it was, outlives the client."""
    async with FaultyProxy((server.address.host, server.address.port)) as proxy:
        async with Client(proxy.address) as client:
            job = await client.submit(["sleep", "600"])
            proxy.stall()
            task = asyncio.ensure_future(use(client, job))
            # Until it waits for the server.
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait({task})
        proxy.heal()
        await disconnected(server)
        assert task.cancelled()
    async with Client(settings=ClientSettings(server.address)) as client:
        await client.cancel(job, force=True)


async def test_an_error_that_somebody_keeps_does_not_keep_its_connection(server: Server) -> None:
    """L10: no matter what it was raised from."""
    kept = []
    async with Client(settings=ClientSettings(server.address)) as client:
        calls = (client.get("nosuch"), client.wait("nosuch"), follow(client, "nosuch"), verify(client, "nosuch"))
        for call in calls:
            with pytest.raises(HodeiError) as raised:
                await call
            kept.append(raised.value)
    await disconnected(server)
    assert len(kept) == len(calls)
