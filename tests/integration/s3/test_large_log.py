"""A large log in S3: archived, verified, and read in places; what counts is how many bytes are fetched."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings, LogPlace
from hodei_faults.s3_proxy import S3Proxy
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
MIB = 1 << 20
#: `just archived-log` sets it to more.
LOG_MIB = int(os.environ.get("HODEI_TEST_ARCHIVED_MIB", "64"))
#: What is fetched for a few lines, whatever the log's size: the end of an object with its index, a few frames, and what
#: a stream sends before it is heard that nobody wants more.
A_FEW = 8 * MIB

pytestmark = pytest.mark.timeout(120 + LOG_MIB)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    """Run a server that remembers nothing of earlier reads; yield a client."""
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        yield client


async def chunks_of(client: Client, job: str, place: LogPlace, wanted: int) -> list[Chunk]:
    """Read a log from a place on until there are so many lines, and no further."""
    found: list[Chunk] = []
    async with contextlib.aclosing(client.logs(job, place=place, follow=False)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Chunk) and event.stream == STDOUT:
                found.append(event)
                if sum(each.data.count(b"\n") for each in found) >= wanted:
                    break
    return found


def at(nanos: int) -> dt.datetime:
    """Return a chunk's time, a little late: people's times have microseconds."""
    return dt.datetime.fromtimestamp(nanos // 1000 / 1e6, dt.UTC) + dt.timedelta(microseconds=2)


async def archive(settings: Settings, printed: Path) -> tuple[str, int]:
    """Run a job that prints random lines, and keep what it prints; wait until its log has left the disk.

    :return: the job, and how many chunks there are.
    """
    async with serving(settings) as client:
        script = f"head -c {LOG_MIB * MIB * 3 // 4} /dev/urandom | base64 | tee {printed}"
        job = await client.submit(["sh", "-c", script])
        assert (await client.wait(job)).exit_code == 0
        async with asyncio.timeout(60 + LOG_MIB):
            while any(path.is_file() for path in (settings.data_dir / "logs").rglob("*")):
                await asyncio.sleep(0.1)
        receipt = await client.receipt(job)
        assert receipt.complete
        assert receipt.bytes == printed.stat().st_size
        return job, receipt.chunks


async def test_a_large_log_is_read_in_places_without_the_rest_verified_and_read_whole_once(
    make_settings: MakeSettings, s3: Any, bucket_name: str, tmp_path: Path
) -> None:
    """L20: its middle, a time, its end, a search there and its beginning take a bounded number of bytes of S3's."""
    job, chunks = await archive(make_settings(log_budget="4Gi", log_segment="16Mi"), tmp_path / "printed")
    stored = sum(
        each["Size"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket_name)
        for each in page["Contents"]
    )
    assert stored > LOG_MIB * MIB // 2
    fetched: dict[str, int] = {}
    async with S3Proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        settings = make_settings(s3_endpoint=proxy.url, s3_read_timeout="30s")

        @contextlib.contextmanager
        def counted(what: str) -> Any:
            before = proxy.fetched
            yield
            fetched[what] = proxy.fetched - before

        async with serving(settings) as client:
            with counted("the middle"):
                middle = await chunks_of(client, job, LogPlace(after_sequence=chunks // 2), 100)
            assert middle[0].sequence == chunks // 2 + 1
        async with serving(settings) as client:
            with counted("a time"):
                place = LogPlace(since=at(middle[0].time - 10_000), until=at(middle[0].time))
                by_time = await chunks_of(client, job, place, 1 << 40)
            assert middle[0].sequence in {each.sequence for each in by_time}
            with counted("the last lines"):
                last = await chunks_of(client, job, LogPlace(tail=100), 100)
            assert b"".join(each.data for each in last).count(b"\n") == 100
        async with serving(settings) as client:
            with counted("a search near the end"):
                place = LogPlace(since=at(last[0].time - 1_000_000))
                found = [
                    line async for line in client.search(job, last[-1].data.splitlines()[-1].decode(), place=place)
                ]
            assert found
            with counted("the first lines"):
                await chunks_of(client, job, LogPlace(), 1)
        assert {what: size for what, size in fetched.items() if not 0 < size < A_FEW} == {}
        async with serving(settings) as client:
            with counted("verified"):
                checks = [each async for each in client.verify_logs(job)]
            assert {each.verdict for check in checks for each in check.segments} == {wire.LOG_VERDICT_OK}
        async with serving(settings) as client:
            with counted("the whole"):
                whole = hashlib.sha256()
                async for event in client.logs(job):
                    if isinstance(event, Chunk) and event.stream == STDOUT:
                        whole.update(event.data)
            with (tmp_path / "printed").open("rb") as file:
                assert whole.digest() == hashlib.file_digest(file, "sha256").digest()
    print(f"{stored} bytes stored; fetched for", "; ".join(f"{what}: {size}" for what, size in fetched.items()))  # noqa: T201 - `just archived-log` shows it
    for what in ("verified", "the whole"):
        assert stored * 0.99 < fetched[what] < stored * 1.05, what
