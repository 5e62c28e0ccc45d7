"""A thousand workers: what they cost a server while they do nothing, and how a server starts that has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_bench.filled import make_history
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.jobs import ECHO
from hodei_bench.peer import peer_process
from hodei_bench.running import cpu_seconds, memory_bytes
from hodei_client import Client

PROCESSES = 4
#: Seconds for which idle processor time is measured.
IDLE_SECONDS = 20.0
#: What `bare_streams` measures.
SILENT = "a silent gRPC stream, each its own connection"
PROGRAM = str(Path(__file__).with_name("fleet_process.py"))


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run the processes that play workers; yield the settings of a server that uses them.

    The provider is installed as any other is: by an entry point, here of a distribution made in a folder.
    """
    plugin = folder / "plugin" / "hodei_bench-0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: hodei-bench\nVersion: 0\n")
    provider = "hodei_bench.fleet_provider:FleetProvider"
    (plugin / "entry_points.txt").write_text(f"[hodei.providers]\nfleet = {provider}\n")
    launches = folder / "launches"
    processes = []
    try:
        for number in range(PROCESSES):
            (launches / str(number)).mkdir(parents=True)
            processes.append(await asyncio.create_subprocess_exec(sys.executable, PROGRAM, str(launches / str(number))))
        yield {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(folder / "plugin")]),
            "providers": "fleet",
            "worker_max_jobs": "0",
            "worker_idle_timeout": "1h",
            "HODEI_PROVIDER_FLEET_FOLDER": str(launches),
            "HODEI_PROVIDER_FLEET_PROCESSES": str(PROCESSES),
        }
    finally:
        for process in processes:
            process.kill()
            await process.wait()


def end_jobs(folder: Path) -> None:
    """Let all jobs end, these and those that come."""
    (folder / "launches" / "open").touch()


async def run_jobs(client: Client, count: int) -> list[str]:
    """Submit so many jobs and wait until all run, each on a worker of its own; return their ids."""
    ids = [await client.submit(ECHO) for _ in range(count)]
    await in_state(client, wire.JOB_STATE_RUNNING, count)
    return ids


async def in_state(client: Client, state: wire.JobState.ValueType, count: int) -> None:
    """Wait until so many of the newest jobs are in a state."""
    async with asyncio.timeout(300):
        while True:
            found = 0
            async for _ in client.list(job_pb2.ListJobsRequest(page_size=1000, states=[state])):
                found += 1
                if found >= count:
                    return
            await asyncio.sleep(0.5)


async def connected(client: Client, count: int) -> None:
    """Wait until so many workers are connected."""
    async with asyncio.timeout(300):
        while sum([worker.connected async for worker in client.workers()]) < count:
            await asyncio.sleep(0.05)


@bench("idle")
async def idle(setup: Setup) -> list[Result]:
    """Workers that are connected and wait, beside streams of a bare gRPC server that are open and silent."""
    count = 100 if setup.short else 1000
    async with (
        fleet(setup.folder) as settings,
        setup.server(**settings) as server,
        server.client() as client,
    ):
        await client.providers()
        before = server.memory_bytes()
        began = time.perf_counter()
        ids = await run_jobs(client, count)
        launched = time.perf_counter() - began
        end_jobs(setup.folder)
        await asyncio.gather(*(client.wait(job_id) for job_id in ids))
        workers = [worker async for worker in client.workers()]
        if sum(worker.connected for worker in workers) != count:
            raise RuntimeError(f"of {count} workers {len(workers)} are there")
        memory = (server.memory_bytes() - before) / count
        cpu = server.cpu_seconds()
        await asyncio.sleep(IDLE_SECONDS)
        cpu = (server.cpu_seconds() - cpu) / IDLE_SECONDS * 100
    stream_memory, stream_cpu = await bare_streams(count)
    note = f"{count:,} workers"
    return [
        Result("idle.memory", memory, "bytes", peer=stream_memory, peer_name=SILENT, note=f"{note}, for each"),
        Result("idle.cpu", cpu, "%", peer=stream_cpu or None, peer_name=SILENT, aim=5, note=f"{note}, of a processor"),
        Result("idle.launched", count / launched, "workers/s", more_is_better=True, note="a job started on each"),
    ]


async def bare_streams(count: int, seconds: float = IDLE_SECONDS / 2) -> tuple[float, float]:
    """Return the bytes that a bare server takes for a silent stream, and its processor time for all in percent."""
    async with peer_process("serve") as (process, address):
        before = memory_bytes(process.pid)
        async with peer_process("hold", address, str(count)):
            memory = (memory_bytes(process.pid) - before) / count
            cpu = cpu_seconds(process.pid)
            await asyncio.sleep(seconds)
            return memory, (cpu_seconds(process.pid) - cpu) / seconds * 100


@bench("start", durable=True)
async def start(setup: Setup) -> list[Result]:
    """A server that starts with a history and with workers that run jobs: until it serves, until it has all again."""
    finished, count = (10_000, 100) if setup.short else (100_000, 1000)
    bare = 0.0
    for _ in range(2):
        # The second time there is a database, as there is below.
        async with setup.server(setup.folder / "empty") as empty:
            bare = empty.start_seconds
    folder, _ = await make_history(setup, "data", finished)
    async with fleet(setup.folder) as settings:
        # Workers come back to the address they know.
        async with setup.server(folder, **settings) as server, server.client() as client:
            ids = await run_jobs(client, count)
            address = {name: server.environment[f"HODEI_{name.upper()}"] for name in ("listen", "worker_listen")}
        began = time.perf_counter()
        async with setup.server(folder, **settings, **address) as server, server.client() as client:
            await connected(client, count)
            adopted = time.perf_counter() - began
            end_jobs(setup.folder)
            outcomes = await asyncio.gather(*(client.wait(job_id) for job_id in ids))
            if any(outcome.state != wire.JOB_STATE_SUCCEEDED for outcome in outcomes):
                raise RuntimeError("a job was lost over the restart")
            jobs = await asyncio.gather(*(client.get(job_id) for job_id in ids))
            if any(len(job.attempts) != 1 for job in jobs):
                raise RuntimeError("a job was run again over the restart")
            serving = server.start_seconds
    note = f"{finished:,} finished jobs, {count:,} workers with a running job"
    nothing = "a server with an empty database"
    return [
        Result("start.serving", serving, "s", peer=bare, peer_name=nothing, note=note),
        Result("start.adopted", adopted, "s", peer=bare, peer_name=nothing, note="all workers connected again"),
    ]
