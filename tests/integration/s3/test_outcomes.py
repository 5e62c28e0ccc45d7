"""What goes to the bucket of jobs that did not go well, and how long it stays there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import SYSTEM, Chunk, Client, ClientSettings
from hodei_server.app import Server
from hodei_server.logs.retention import Removed, Retention
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def archived(settings: Settings) -> None:
    """Wait until no log is on the disk any more."""
    folder = settings.data_dir / "logs"
    async with asyncio.timeout(60):
        while any(path.is_file() for path in await asyncio.to_thread(lambda: list(folder.rglob("*")))):
            await asyncio.sleep(0.05)


def names(s3: Any, bucket: str) -> set[str]:
    """Return the names of all objects."""
    return {each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())}


async def test_the_last_words_of_a_worker_that_never_came_are_archived_too(
    make_settings: MakeSettings, s3: Any, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L17, L19: what it printed before it ended is the log of its job, which never ran, and is read from the bucket."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", "sh -c 'echo its last words; exit 7'")
    settings = make_settings()
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        retries = wire.RetryPolicy(max_infrastructure_retries=0)
        job = await client.submit(["true"], retry=retries)
        assert (await client.wait(job)).state == wire.JOB_STATE_FAILED
        await archived(settings)
        assert any(name.endswith(".sealed") for name in names(s3, bucket_name))
        said = [each async for each in client.logs(job) if isinstance(each, Chunk)]
        assert {each.stream for each in said} == {SYSTEM}
        assert b"its last words" in b"".join(each.data for each in said)


async def test_how_old_an_object_is_says_nothing_about_its_log(
    make_settings: MakeSettings, s3: Any, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L21: it goes by its job's recorded end; whatever was stored, and however often one looks, the rest stays."""
    passes = asyncio.Queue[Removed]()
    run = Retention.run

    async def noted(self: Retention, *arguments: Any, **more: Any) -> Removed:
        removed = await run(self, *arguments, **more)
        passes.put_nowait(removed)
        return removed

    monkeypatch.setattr(Retention, "run", noted)
    settings = make_settings(log_ttl="1h")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        jobs = [await client.submit(["seq", "1000"]) for _ in range(2)]
        for job in jobs:
            await client.wait(job)
        await archived(settings)
        before = names(s3, bucket_name)
        assert len(before) == 4
        while not passes.empty():
            passes.get_nowait()
        seen = [await asyncio.wait_for(passes.get(), 60) for _ in range(3)]
        assert {each.logs for each in seen} == {0}
        assert names(s3, bucket_name) == before
