"""Many followers: of one live log, and of logs that have ended."""

from __future__ import annotations

import asyncio
import time

from hodei_bench.fleet import IDLE_SECONDS, SILENT, bare_streams
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.jobs import ECHO, output_of
from hodei_bench.logs import LINE_BYTES, follow_whole, write_lines
from hodei_bench.peer import unary_rate
from hodei_bench.running import RunningServer
from hodei_client import Client
from hodei_faults.ports import free_port

#: Prints a file in ten parts, half a second apart, once another file is there.
JOB = """
until [ -e "$0" ]; do sleep 0.05; done
for part in 0 1 2 3 4 5 6 7 8 9; do tail -n "+$((part * $2 + 1))" "$1" | head -n "$2"; sleep 0.5; done
"""


@bench("followers", durable=True)
async def followers(setup: Setup) -> list[Result]:
    """A thousand followers of one live log; ten thousand follows of finished logs, a thousand at once."""
    seconds = 5.0 if setup.short else IDLE_SECONDS
    count, follows, at_once = (100, 500, 100) if setup.short else (1000, 10_000, 1000)
    lines = 1000
    file = write_lines(setup.folder / "lines", lines)
    gate = setup.folder / "gate"
    caps = {"max_follows_per_job": str(at_once + 10), "max_follows_per_client": str(at_once + 10)}
    caps["metrics_listen"] = f"127.0.0.1:{free_port()}"
    async with setup.server(worker_max_jobs="0", **caps) as server, server.client() as client:
        await output_of(client, await client.submit(ECHO))
        before = server.memory_bytes()
        job_id = await client.submit(["sh", "-c", JOB, str(gate), str(file), str(lines // 10)])
        following = [asyncio.create_task(follow_whole(client, job_id, lines * LINE_BYTES)) for _ in range(count)]
        await all_open(server, count)
        memory = (server.memory_bytes() - before) / count
        cpu = server.cpu_seconds()
        await asyncio.sleep(seconds)
        idle = (server.cpu_seconds() - cpu) / seconds * 100
        cpu, began = server.cpu_seconds(), time.perf_counter()
        gate.touch()
        await asyncio.gather(*following)
        live = time.perf_counter() - began
        cpu = server.cpu_seconds() - cpu
        finished = await finished_follows(client, follows, at_once)
    bare = await unary_rate(follows, at_once)
    stream_memory, stream_cpu = await bare_streams(count, seconds / 2)
    delivered = count * lines / live
    note = f"{count:,} followers, all whole; the job itself takes 5 s"
    return [
        Result("followers.live", live, "s", note=note),
        Result("followers.live-lines", delivered, "lines/s", more_is_better=True, note="to all of them together"),
        Result("followers.live-cpu", cpu / (count * lines) * 1e6, "us", note="of the server, each line to each"),
        Result(
            "followers.memory",
            memory,
            "bytes",
            peer=stream_memory,
            peer_name=SILENT,
            note="of the server, for each that waits, all through one connection",
        ),
        Result(
            "followers.idle-cpu",
            idle,
            "%",
            peer=stream_cpu or None,
            peer_name=SILENT,
            aim=5,
            note=f"of one processor, while {count:,} followers wait; each is told every 15 s that it is connected",
        ),
        Result(
            "followers.finished",
            finished,
            "follows/s",
            more_is_better=True,
            peer=bare,
            peer_name="bare gRPC calls, as many at once",
            note=f"{follows:,} follows of finished logs, {at_once:,} at once, all whole",
        ),
    ]


async def all_open(server: RunningServer, count: int) -> None:
    """Wait until the server counts so many log streams."""
    async with asyncio.timeout(300):
        while await server.metric("hodei_followers") < count:
            await asyncio.sleep(0.05)


async def finished_follows(client: Client, follows: int, at_once: int) -> float:
    """Follow finished logs; return how many in a second.

    :raise RuntimeError: one is not whole.
    """
    ids = [await client.submit(ECHO) for _ in range(10)]
    await asyncio.gather(*(client.wait(job_id) for job_id in ids))
    numbers = iter(range(follows))

    async def follow_some() -> None:
        for number in numbers:
            await follow_whole(client, ids[number % len(ids)], len(b"hi\n"))

    began = time.perf_counter()
    await asyncio.gather(*(follow_some() for _ in range(at_once)))
    return follows / (time.perf_counter() - began)
