"""A little of a large log, by its time, by a pattern or from its beginning: live, from the disk and from S3."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_bench.archive import archive_all, write_log
from hodei_bench.bucket import is_missing, plain_bucket
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.running import HODEI, RunningServer, clean_environment
from hodei_bench.seek import make
from hodei_client import STDOUT, Chunk, Client, LogPlace
from hodei_faults.s3_proxy import S3Proxy

#: What a search looks for: it is in every log, in a line of many.
PATTERN = "took=9999us"
SETTINGS = {"worker_max_jobs": "0", "log_budget": "4Gi"}

VERBS = ("read", "search")

Count = Callable[[], int]


async def middle_of(client: Client, job_id: str) -> LogPlace:
    """Find the time of a log's middle."""
    receipt = await client.receipt(job_id)
    place = LogPlace(after_sequence=receipt.chunks // 2)
    async with contextlib.aclosing(client.logs(job_id, place=place, follow=False)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Chunk) and event.stream == STDOUT:
                found, little = (
                    dt.datetime.fromtimestamp(event.time // 1000 / 1e6, dt.UTC),
                    dt.timedelta(microseconds=10),
                )
                return LogPlace(since=found - little, until=found + little)
    raise RuntimeError("the log has no middle")


async def read(client: Client, job_id: str, place: LogPlace) -> int:
    """Read a log, or what of it a place names; return bytes of standard output."""
    size = 0
    async for event in client.logs(job_id, place=place, follow=False):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            size += len(event.data)
    if not size:
        raise RuntimeError("nothing came")
    return size


async def search(client: Client, job_id: str, place: LogPlace) -> int:
    """Search a log, or what of it a place names; return how many lines came."""
    return len([event async for event in client.search(job_id, PATTERN, literal=True, place=place)])


async def counted(count: Count, work: Awaitable[object]) -> int:
    """Do some work; return how many bytes it took."""
    before = count()
    await work
    return count() - before


async def by_time(client: Client, job_id: str, moment: LogPlace, count: Count, name: str) -> Result:
    """Read or search a moment of a log, and all of it; compare the bytes that either took, as the store counts them.

    :param name: of the result; it ends with what is to be done.
    """
    work = search if name.endswith("search") else read
    some = await counted(count, work(client, job_id, moment))
    everything = await counted(count, work(client, job_id, LogPlace()))
    return Result(
        f"by-time.{name}",
        some,
        "bytes",
        peer=everything,
        peer_name="the same of the whole log",
        aim=20,
        aim_of="ratio",
        note="a moment of the middle, by its time",
    )


@contextlib.asynccontextmanager
async def live(client: Client, file: Path, gate: Path, times: int = 1) -> AsyncIterator[str]:
    """Have a job print a file, so many times, and stay; yield it once all is there."""
    os.mkfifo(gate)
    job_id = await client.submit(["cat", *[str(file)] * times, str(gate)])
    while (await client.receipt(job_id)).bytes < file.stat().st_size * times:
        await asyncio.sleep(0.1)
    try:
        yield job_id
    finally:
        with contextlib.suppress(OSError):
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        if (await client.wait(job_id)).state != wire.JOB_STATE_SUCCEEDED:
            raise RuntimeError("the job has failed")


async def first_line(server: RunningServer, job_id: str) -> float:
    """Ask for a log as a person does who leaves after its first line; return milliseconds until that."""
    command = (HODEI, "--server", server.address, "logs", job_id)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=clean_environment()
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    took = (time.perf_counter() - began) * 1e3
    process.kill()
    await process.communicate()
    if not line.endswith(b"\n"):
        raise RuntimeError(f"`hodei logs` printed {line!r}")
    return took


async def first_lines(server: RunningServer, name: str, large: str, small: str, size: int) -> Result:
    """Compare the first line of a large log with that of a small one; by turns."""
    took: dict[str, list[float]] = {large: [], small: []}
    for _ in range(11):
        for job_id, times in took.items():
            times.append(await first_line(server, job_id))
    return Result(
        f"by-time.first-line-{name}",
        statistics.median(took[large]),
        "ms",
        peer=statistics.median(took[small]),
        peer_name="a log of a sixteenth of the size",
        aim=1 / 1.3,
        aim_of="ratio",
        note=f"`hodei logs` of {size >> 20} MiB, its own start included",
    )


@bench("by-time")
async def places(setup: Setup) -> list[Result]:
    """A moment of a large log by its time, beside all of it, in bytes read; its first line, beside a small log's."""
    size = 64 << 20 if setup.short else 1 << 30
    files = [write_log(setup.folder / name, each) for name, each in (("large", size), ("small", size // 16))]
    data = setup.folder / "data"
    results = []
    async with setup.server(data, **SETTINGS) as server, server.client() as client:
        async with live(client, files[0], setup.folder / "gate") as job_id:
            moment = await middle_of(client, job_id)
            results += [await by_time(client, job_id, moment, server.read_bytes, f"live-{verb}") for verb in VERBS]
        large, small = [(await make(server, client, file)).job_id for file in files]
        moment = await middle_of(client, large)
        results += [await by_time(client, large, moment, server.read_bytes, f"disk-{verb}") for verb in VERBS]
        results.append(await first_lines(server, "disk", large, small, size))
    if is_missing("by-time, of S3"):
        return results
    with plain_bucket() as bucket:
        await archive_all(data, bucket)
        settings = {**SETTINGS, **bucket.settings()}
        async with S3Proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
            for verb in VERBS:
                # Each server remembers nothing of what the one before has fetched.
                async with setup.server(data, **settings, s3_endpoint=proxy.url) as server, server.client() as client:
                    results.append(await by_time(client, large, moment, lambda: proxy.fetched, f"archived-{verb}"))
        async with setup.server(data, **settings) as server:
            results.append(await first_lines(server, "archived", large, small, size))
    return results
