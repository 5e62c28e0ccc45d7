"""What the server's process takes while segments of a large log go to S3 and many read it from there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_faults.ports import free_port
from hodei_faults.processes import memory
from hodei_faults.servers import ServerProcess
from hodei_logstore.s3.remote import MAX_STRETCH_BYTES
from hodei_server.settings import Settings

MIB = 1 << 20
#: `just soak` sets it to more.
SCALE = int(os.environ.get("HODEI_TEST_MEMORY_SCALE", "1"))
LOG_MIB, READERS = 128 * SCALE, 4
CACHE, AHEAD, CONCURRENCY = 16 * MIB, 16 * MIB, 2
#: What goes on beside the settings' bounds: see tests/e2e; and boto3's connections and buffers.
ON_THE_WAY = 64 * MIB

pytestmark = pytest.mark.timeout(120 * SCALE)


async def read_whole(client: Client, job: str) -> int:
    """Read a log to its end, compared with its receipt; return how many bytes it had."""
    size = 0
    async for event in client.logs(job, follow=False):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            size += len(event.data)
    return size


async def test_a_log_that_goes_to_s3_and_is_read_from_there_takes_what_the_settings_say(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """L14, L20: the peak of both, beside that of a server that has seen none."""
    settings = make_settings(listen=f"127.0.0.1:{free_port()}", worker_listen=f"127.0.0.1:{free_port()}")
    server = ServerProcess(settings, tmp_path / "server.log")
    await server.start(
        HODEI_S3_BUCKET=settings.s3_bucket,
        HODEI_S3_PREFIX=settings.s3_prefix,
        HODEI_S3_ADDRESSING="path",
        HODEI_S3_CACHE=str(CACHE),
        HODEI_S3_READ_AHEAD=str(AHEAD),
        HODEI_S3_CONCURRENCY=str(CONCURRENCY),
        HODEI_LOG_PENDING="2Mi",
        HODEI_LOG_RECENT="1Mi",
        HODEI_LOG_SEGMENT="4Mi",
        HODEI_LOG_BUDGET="8Gi",
    )
    logs = settings.data_dir / "logs"
    try:
        async with Client(settings=ClientSettings(settings.address)) as client:

            async def print_random(mib: int) -> str:
                """Run a job that prints what compresses little; wait until its log has left the disk."""
                job = await client.submit(["head", "-c", f"{mib}M", "/dev/urandom"])
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
                while any(path.suffix in {".open", ".sealed"} for path in logs.rglob("*")):
                    await asyncio.sleep(0.1)
                return job

            assert await read_whole(client, await print_random(1)) == MIB
            before = memory(server.pid, "VmHWM")
            job = await print_random(LOG_MIB)
            after = memory(server.pid, "VmHWM")
            assert await asyncio.gather(*(read_whole(client, job) for _ in range(READERS))) == [LOG_MIB * MIB] * READERS
            peak = memory(server.pid, "VmHWM")
    finally:
        await server.stop()
    print(f"before: {before // MIB} MiB; archived: {after // MIB} MiB; read: {peak // MIB} MiB")  # noqa: T201 - for who asks
    assert after - before < 3 * MIB + ON_THE_WAY
    assert peak - before < CACHE + AHEAD + CONCURRENCY * MAX_STRETCH_BYTES + ON_THE_WAY
