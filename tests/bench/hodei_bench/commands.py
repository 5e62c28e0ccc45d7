"""The command line: how long a person waits for it."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from hodei_bench.harness import Result, Setup, bench
from hodei_bench.running import HODEI, RunningServer, clean_environment


async def whole(*command: str) -> float:
    """Run a command to its end; return milliseconds.

    :raise RuntimeError: it failed.
    """
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=clean_environment(), stdin=asyncio.subprocess.DEVNULL
    )
    await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return (time.perf_counter() - began) * 1e3


async def first_line(*command: str) -> float:
    """Run a command; return milliseconds until its first line.

    :raise RuntimeError: it failed, or printed nothing.
    """
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=clean_environment(), stdin=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    took = (time.perf_counter() - began) * 1e3
    await process.communicate()
    if process.returncode or not line:
        raise RuntimeError(f"{command} ended with {process.returncode} and printed {line!r}")
    return took


@bench("cli")
async def cli(setup: Setup) -> list[Result]:
    """What a person types, beside a Python that does nothing, and one that imports gRPC."""
    times = 3 if setup.short else 11

    async def median(measure: Callable[[], Awaitable[float]]) -> float:
        await measure()
        return statistics.median([await measure() for _ in range(times)])

    async def run(server: RunningServer) -> float:
        return await median(lambda: first_line(HODEI, "--server", server.address, "run", "-q", "--", "/bin/echo", "hi"))

    python = await median(lambda: whole(sys.executable, "-c", "pass"))
    with_grpc = await median(lambda: whole(sys.executable, "-c", "import grpc.aio"))
    shown = await median(lambda: whole(HODEI, "--help"))
    async with setup.server() as server:
        async with server.client() as client:
            job_id = await client.submit(["/bin/echo", "hi"])
            await client.wait(job_id)
        got = await median(lambda: whole(HODEI, "--server", server.address, "get", job_id))
        fresh = await run(server)
    async with setup.server(worker_max_jobs="0") as server:
        warm = await run(server)
    nothing, grpc = "Python that does nothing", "Python that imports grpc.aio"
    return [
        Result("cli.help", shown, "ms", peer=python, peer_name=nothing, aim=150),
        Result("cli.get", got, "ms", peer=with_grpc, peer_name=grpc, aim=450),
        Result("cli.run-first-line", fresh, "ms", peer=with_grpc, peer_name=grpc, aim=700, note="a new worker"),
        Result("cli.run-first-line-warm", warm, "ms", peer=with_grpc, peer_name=grpc, note="a warm worker"),
    ]
