"""Slow readers, many at once, big bursts: what presses on the server's memory and patience."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from pathlib import Path

import pytest
from grpc import aio

from hodei.transport import open_channel
from hodei.v1 import log_pb2, log_pb2_grpc, provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_server.app import Server

#: Follows that are broken between two looks at the memory, and what each may leave behind, in bytes.
STRETCH = 1250
LEFT_BEHIND = 1024


def resident_bytes() -> int:
    """Return how much memory this process, which holds the server, has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def digest(client: Client, job: str) -> tuple[int, str]:
    """Return how much a job wrote, and the SHA-256 of it."""
    size, sha = 0, hashlib.sha256()
    async for event in client.logs(job):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            size += len(event.data)
            sha.update(event.data)
    return size, sha.hexdigest()


async def test_a_burst_of_a_million_lines_is_whole_beside_a_reader_that_stops(
    server: Server, client: Client, tmp_path: Path
) -> None:
    """L07, L09, L14, L27: a follower that reads nothing costs the others nothing, and later misses nothing."""
    job = await client.submit(["sh", "-c", f"seq 1000000; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"])
    expected = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    # A window that stays small: what is not read waits at the server.
    async with aio.insecure_channel(server.address.target, [("grpc.http2.bdp_probe", 0)]) as channel:
        slow = log_pb2_grpc.LogStreamServiceStub(channel).StreamLogs(log_pb2.StreamLogsRequest(job_id=job, follow=True))
        responses = aiter(slow)
        await anext(responses)
        following = [asyncio.create_task(digest(client, job)) for _ in range(3)]
        async with asyncio.timeout(60):
            while (await client.receipt(job)).bytes < len(expected):
                await asyncio.sleep(0.02)
        # The one that stopped goes on where it was: the job still runs, and most of its log is no longer in memory.
        size = 0
        async for response in responses:
            assert response.ByteSize() < 2 << 20
            if response.WhichOneof("event") == "block":
                size += sum(len(chunk.data) for chunk in response.block.chunks)
            if size == len(expected):
                (tmp_path / "go").touch()
        assert size == len(expected)
        assert set(await asyncio.gather(*following)) == {(len(expected), hashlib.sha256(expected).hexdigest())}


async def test_one_line_without_an_end_is_no_trouble(client: Client) -> None:
    """L01, L11, L14: 200 MiB without a newline, and the server's memory doesn't grow with them."""
    before = resident_bytes()
    job = await client.submit(["sh", "-c", "head -c 209715200 /dev/zero | tr '\\0' x"])
    expected = hashlib.sha256()
    for _ in range(200):
        expected.update(b"x" * (1 << 20))
    assert await digest(client, job) == (200 << 20, expected.hexdigest())
    assert resident_bytes() - before < 100 << 20
    receipt = await client.receipt(job)
    assert (receipt.lines, receipt.complete) == (0, True)


async def test_thousands_of_broken_follows_leave_nothing_behind(server: Server, client: Client) -> None:
    """L08, L10: each ends with its call; the server's memory stays where it was."""
    job = await client.submit(["sh", "-c", "echo here; exec sleep 600"])
    request = log_pb2.StreamLogsRequest(job_id=job, follow=True)
    async with open_channel(server.address) as channel:
        stub = log_pb2_grpc.LogStreamServiceStub(channel)

        async def break_one() -> None:
            call = stub.StreamLogs(request)
            await call.read()
            call.cancel()

        async def break_many() -> int:
            """Break a stretch of follows; return how much memory there is once they are gone."""
            for _ in range(STRETCH // 50):
                await asyncio.gather(*(break_one() for _ in range(50)))
            async with asyncio.timeout(60):
                while sum("StreamLogs" in str(task.get_coro()) for task in asyncio.all_tasks()):
                    await asyncio.sleep(0.05)
            gc.collect()
            return resident_bytes()

        # What is made once is made by the first. Both together are more than may be open at once: each makes room.
        held = [await break_many(), await break_many()]
        # What leaks does so in each stretch; what the allocator takes now and then is not taken in all of them.
        while held[-1] - held[-2] >= STRETCH * LEFT_BEHIND and len(held) < 6:
            held.append(await break_many())
        assert held[-1] - held[-2] < STRETCH * LEFT_BEHIND, held
    await client.cancel(job, force=True)
    await client.wait(job)


async def test_many_jobs_at_once_each_have_their_own_log(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """W15, W44: no more workers than the provider holds, each job once, each log its own."""
    # Every look goes on behind the last job that has found a place.
    monkeypatch.setattr("hodei_server.work.scheduler.BEHIND_SECONDS", 0.0)
    limit = (await client.providers())[0].capabilities.max_workers
    # All of them wait when the provider is opened, and are looked at together.
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
    jobs = [await client.submit(["sh", "-c", f"for i in 1 2 3; do echo job {number}; done"]) for number in range(30)]
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
    most = 0
    waiting = asyncio.gather(*(client.wait(job) for job in jobs))
    while not waiting.done():
        most = max(most, len([worker async for worker in client.workers()]))
        await asyncio.sleep(0.02)
    assert most <= limit
    for number, job in enumerate(jobs):
        data = b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)])
        assert data == b"job %d\n" % number * 3
        assert len((await client.get(job)).attempts) == 1


async def test_workers_start_while_many_calls_are_under_way(server: Server, client: Client) -> None:
    """W23: the forks that start workers meet gRPC's threads at work, and none hangs."""
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    busy = True

    async def call_all_the_time() -> int:
        calls = 0
        async with Client(settings=ClientSettings(server.address)) as other:
            while busy:
                await other.providers()
                calls += 1
        return calls

    calling = [asyncio.create_task(call_all_the_time()) for _ in range(4)]
    jobs = [
        await client.submit(["sh", "-c", "grep -c . /proc/$PPID/environ; for i in 1 2 3 4; do /bin/echo $i; done"])
        for _ in range(25)
    ]
    for job in jobs:
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    busy = False
    assert min(await asyncio.gather(*calling)) > 0
