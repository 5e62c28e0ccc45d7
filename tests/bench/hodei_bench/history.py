"""A long history must cost nothing: submit, list, dispatch and read with few and with many finished jobs."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_bench.filled import make_history
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.jobs import ECHO, one_job, output_of
from hodei_client import Client

Measure = Callable[[Client, str], Awaitable[float]]


async def submit(client: Client, job_id: str) -> float:  # noqa: ARG001 - one shape for all measures
    """Submit a job; return milliseconds until the answer. It has ended when this returns."""
    began = time.perf_counter()
    new = await client.submit(ECHO)
    took = (time.perf_counter() - began) * 1e3
    await client.wait(new)
    return took


async def dispatch(client: Client, job_id: str) -> float:  # noqa: ARG001 - one shape for all measures
    """Run a job on a warm worker; return milliseconds until its end."""
    return await one_job(client)


async def read(client: Client, job_id: str) -> float:
    """Read the oldest job's log; return milliseconds."""
    began = time.perf_counter()
    if await output_of(client, job_id) != b"hi\n":
        raise RuntimeError(f"the log of job {job_id} is lost")
    return (time.perf_counter() - began) * 1e3


def listing(**wanted: object) -> Measure:
    """Return what measures the first page of a list: milliseconds.

    :param wanted: fields of `ListJobsRequest`.
    """

    async def measure(client: Client, job_id: str) -> float:  # noqa: ARG001 - one shape for all measures
        request = job_pb2.ListJobsRequest(page_size=10, **wanted)  # type: ignore[arg-type]
        began = time.perf_counter()
        async with contextlib.aclosing(client.list(request)) as jobs:  # type: ignore[type-var]
            async for _ in jobs:
                break
        return (time.perf_counter() - began) * 1e3

    return measure


MEASURES: dict[str, Measure] = {
    "submit": submit,
    "dispatch": dispatch,
    "log-read": read,
    "list": listing(),
    "list-succeeded": listing(states=[wire.JOB_STATE_SUCCEEDED]),
    "list-running": listing(states=[wire.JOB_STATE_RUNNING]),
    "list-name": listing(name="history"),
    "list-provider": listing(provider="process"),
}


@bench("history", durable=True)
async def history(setup: Setup) -> list[Result]:
    """Servers with 10, 10,000 and 1,000,000 finished jobs, asked in turn."""
    sizes = (10, 10_000) if setup.short else (10, 10_000, 1_000_000)
    times = 15 if setup.short else 40
    took: dict[tuple[str, int], list[float]] = {(name, size): [] for name in MEASURES for size in sizes}
    async with contextlib.AsyncExitStack() as stack:
        asked = []
        for size in sizes:
            folder, job_id = await make_history(setup, f"history{size}", size)
            server = await stack.enter_async_context(setup.server(folder, worker_max_jobs="0"))
            client = await stack.enter_async_context(server.client())
            await one_job(client)
            asked.append((size, client, job_id))
        for name, measure in MEASURES.items():
            for turn in range(times + 1):
                for size, client, job_id in asked:
                    async with asyncio.timeout(60):
                        value = await measure(client, job_id)
                    if turn:
                        took[name, size].append(value)
    medians = {key: statistics.median(values) for key, values in took.items()}
    return [
        Result(
            f"history.{name}-{size}",
            medians[name, size],
            "ms",
            peer=medians[name, sizes[0]],
            peer_name=f"the same with {sizes[0]}",
            aim=1 / 1.3,
            aim_of="ratio",
            note=f"{size:,} finished jobs",
        )
        for name in MEASURES
        for size in sizes[1:]
    ]
