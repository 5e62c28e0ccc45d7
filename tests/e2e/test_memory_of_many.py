"""What the server's process takes while many do the same at once: follow one live log, or print."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from hodei.address import Address
from hodei.transport import WINDOW_BYTES, open_channel
from hodei.v1 import log_pb2, log_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings
from hodei_faults.processes import memory
from hodei_server.rpc.log_reading import READ_BYTES
from hodei_worker.outbox import BLOCK_BYTES

MIB = 1 << 20
#: `just soak` sets it to more.
SCALE = int(os.environ.get("HODEI_TEST_MEMORY_SCALE", "1"))
FOLLOWERS, CONNECTIONS = 200 * SCALE, 4
FOLLOWED_MIB = 16
LOGS, LOG_MIB = 50 * SCALE, 4
#: What goes on beside the settings' bounds: gRPC's windows, blocks in the hands of threads, the allocator's fragments.
ON_THE_WAY = 64 * MIB
#: What is on its way to a follower: a message of what was read, once more as gRPC has it, and what was read ahead.
OF_A_FOLLOWER = 3 * max(BLOCK_BYTES, READ_BYTES)
#: What a log has beyond the bound of all: a block, what its worker has sent and nobody has read, and its session.
OF_A_LOG = BLOCK_BYTES + WINDOW_BYTES + MIB // 4

pytestmark = pytest.mark.timeout(120 * SCALE)


def printing(folder: Path, mib: int, *, then: str = "") -> list[str]:
    """Return what prints so much once there is a file named gate, and then does something else."""
    lines = f"yes 'a line of a log, and another, and another' | head -c {mib}M"
    return ["sh", "-c", f"until [ -e {folder}/gate ]; do sleep 0.05; done; {lines}; {then}"]


async def whole(call: Any) -> int:
    """Read a stream to its end; return how many bytes of log it had."""
    size = 0
    while True:
        message: log_pb2.StreamLogsResponse = await call.read()
        size += sum(len(chunk.data) for chunk in message.block.chunks if chunk.stream == log_pb2.LOG_STREAM_STDOUT)
        if message.HasField("end"):
            return size


async def test_hundreds_of_followers_that_take_nothing_cost_a_read_each_however_long_the_log(offline: Any) -> None:
    """L09: the peak with all of them; those that go on later have all of it."""
    offline.environment |= {
        "HODEI_LOG_PENDING": "2Mi",
        "HODEI_LOG_RECENT": "1Mi",
        "HODEI_LOG_SEGMENT": "8Mi",
        "HODEI_MAX_FOLLOWS_PER_JOB": str(FOLLOWERS),
    }
    offline.start_server()
    address = Address("127.0.0.1", offline.port)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(settings=ClientSettings(address)))
        channels = [await stack.enter_async_context(open_channel(address)) for _ in range(CONNECTIONS)]
        await client.wait(await client.submit(["echo", "seen none"]))
        before = memory(offline.server.pid, "VmHWM")
        job = await client.submit(printing(offline.folder, FOLLOWED_MIB))
        request = log_pb2.StreamLogsRequest(job_id=job, follow=True)
        stubs = [log_pb2_grpc.LogStreamServiceStub(channel) for channel in channels]
        calls: list[Any] = [stubs[number % CONNECTIONS].StreamLogs(request) for number in range(FOLLOWERS)]
        for call in calls:
            assert (await call.read()).HasField("start")
        (offline.folder / "gate").touch()
        assert (await client.wait(job)).state == types_wire.JOB_STATE_SUCCEEDED
        assert await asyncio.gather(*map(whole, calls[:CONNECTIONS])) == [FOLLOWED_MIB * MIB] * CONNECTIONS
        peak = memory(offline.server.pid, "VmHWM")
        for call in calls:
            call.cancel()
    print(f"before: {before // MIB} MiB; peak with {FOLLOWERS} followers: {peak // MIB} MiB")  # noqa: T201 - for who asks
    assert peak - before < 3 * MIB + FOLLOWERS * OF_A_FOLLOWER + ON_THE_WAY


async def test_many_logs_at_once_take_what_the_settings_say_for_all_together(offline: Any) -> None:
    """L14: the peak while all of them are open and have printed."""
    bound = 16
    offline.environment |= {
        "HODEI_LOG_MEMORY": f"{bound}Mi",
        "HODEI_LOG_RECENT": f"{LOG_MIB}Mi",
        "HODEI_LOG_SEGMENT": "64Mi",
        "HODEI_PROVIDER_PROCESS_MAX_WORKERS": str(LOGS),
    }
    offline.start_server()
    async with Client(settings=ClientSettings(Address("127.0.0.1", offline.port))) as client:
        await client.wait(await client.submit(["echo", "seen none"]))
        before = memory(offline.server.pid, "VmHWM")
        held = f"until [ -e {offline.folder}/over ]; do sleep 0.2; done"
        jobs = [await client.submit(printing(offline.folder, LOG_MIB, then=held)) for _ in range(LOGS)]
        (offline.folder / "gate").touch()
        for job in jobs:
            while (await client.receipt(job)).bytes < LOG_MIB * MIB:
                await asyncio.sleep(0.1)
        peak = memory(offline.server.pid, "VmHWM")
        (offline.folder / "over").touch()
        for job in jobs:
            assert (await client.wait(job)).state == types_wire.JOB_STATE_SUCCEEDED
    print(f"before: {before // MIB} MiB; peak with {LOGS} logs: {peak // MIB} MiB")  # noqa: T201 - for who asks
    assert peak - before < bound * MIB + LOGS * OF_A_LOG + ON_THE_WAY
