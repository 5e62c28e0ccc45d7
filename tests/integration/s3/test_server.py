"""A server whose logs go to S3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hodei_client import Chunk, Client, ClientSettings
from hodei_faults.logs import read
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import jobs, log_segments
from hodei_server.db.segments import Place, SegmentState
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def local(settings: Settings) -> list[Path]:
    """Return the files of logs on the disk."""
    return [path for path in (settings.data_dir / "logs").rglob("*") if path.is_file()]


def objects(s3: Any, bucket: str) -> dict[str, int]:
    """Return what is in a bucket, with its size."""
    return {each["Key"]: each["Size"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())}


def rows(settings: Settings) -> list[Any]:
    """Return the rows of all segments."""
    engine = open_engine(settings.resolved_database_url)
    with engine.begin() as connection:
        found = connection.execute(select(log_segments).order_by(log_segments.c.first_sequence)).all()
    engine.dispose()
    return list(found)


def numbers(count: int) -> bytes:
    """Return what `seq` prints."""
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


async def test_logs_go_to_the_bucket_whatever_became_of_their_jobs(
    make_settings: MakeSettings, s3: Any, bucket_name: str
) -> None:
    """L19, L20: the disk is empty afterwards, the manifest tells the receipt, and the logs read the same."""
    settings = make_settings(log_segment="64Ki")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        ended = [await client.submit(["sh", "-c", f"seq 400000; exit {code}"]) for code in (0, 1)]
        ended.append(await client.submit(["sh", "-c", "seq 400000; kill -9 $$"]))
        silent = await client.submit(["true"])
        for job in (*ended, silent):
            await client.wait(job)
        await until(lambda: not local(settings))
        for job in ended:
            assert await read(client, job) == numbers(400000)
            receipt = await client.receipt(job)
            assert receipt.complete
            found = objects(s3, bucket_name)
            (name,) = [each for each in found if each.endswith(f"/{receipt.attempt_uid}/manifest.json")]
            assert name.startswith("of/tests/")
            manifest = json.loads(s3.get_object(Bucket=bucket_name, Key=name)["Body"].read())
            assert manifest["job_id"] == job
            assert int(manifest["receipt"]["bytes"]) == receipt.bytes
            assert manifest["receipt"]["complete"]
            assert len(manifest["segments"]) >= 2
            folder = name.removesuffix(f"{receipt.attempt_uid}/manifest.json")
            assert all(found[folder + each["object"]] == each["object_bytes"] for each in manifest["segments"])
        assert await read(client, silent) == b""


async def test_a_job_that_runs_uploads_as_it_goes(make_settings: MakeSettings, s3: Any, bucket_name: str) -> None:
    """By size, and by age; it is followed from the beginning all the while, across bucket, disk and memory."""
    settings = make_settings(log_segment="64Ki", log_segment_age="200ms", log_recent="0")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        release = settings.data_dir / "go"
        script = f"seq 400000; while [ ! -e {release} ]; do sleep 0.05; done; echo the end"
        job = await client.submit(["sh", "-c", script])
        uid = ""
        async for event in client.logs(job, follow=True):
            if isinstance(event, Chunk) and event.data.endswith(b"400000\n"):
                uid = (await client.receipt(job)).attempt_uid
                break
        # All of it, the last segment too, which no size has ended.
        await until(lambda: sum(row.state == int(SegmentState.OPEN) for row in rows(settings)) == 1)
        await until(lambda: not local(settings))
        assert not (await client.receipt(job)).ended
        assert len([name for name in objects(s3, bucket_name) if f"/{uid}/" in name]) > 2
        followed = asyncio.create_task(read(client, job))
        release.touch()
        await client.wait(job)
        assert await read(client, job) == numbers(400000) + b"the end\n"
        assert (numbers(400000) + b"the end\n").startswith(await followed)
        assert (await client.receipt(job)).complete


@pytest.mark.parametrize("step", ["upload", "manifest", "note", "drop"])
async def test_a_server_that_dies_while_it_moves_a_log_loses_and_doubles_nothing(
    make_settings: MakeSettings, s3: Any, bucket_name: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """L20: after each step; the next server does the last one again and finds it done."""
    from hodei_logstore.s3 import S3LogStore  # noqa: PLC0415 - of the extra "s3"
    from hodei_server.loops import archive  # noqa: PLC0415 - the same

    settings = make_settings(log_segment="64Ki")
    died = asyncio.Event()

    async def die(*_: object) -> Any:
        died.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        if step == "upload":
            patch.setattr(S3LogStore, "write_manifest", die)
        elif step == "manifest":
            patch.setattr(archive, "mark_archived", lambda *_: (_ for _ in ()).throw(TimeoutError))
        elif step == "note":
            patch.setattr(S3LogStore, "drop", die)
        else:
            patch.setattr(archive, "mark_place", lambda *_: (_ for _ in ()).throw(TimeoutError))
        async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
            job = await client.submit(["seq", "40000"])
            await client.wait(job)
            # Either it waits where it was killed, or its loop has died of it.
            waits = [asyncio.create_task(each.wait()) for each in (died, server.failed)]
            await asyncio.wait(waits, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            assert died.is_set() or server.failed.is_set()
            for wait in waits:
                wait.cancel()
    before = {name: size for name, size in objects(s3, bucket_name).items() if name.endswith(".sealed")}
    assert before
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await until(lambda: not local(settings) and all(row.place == int(Place.S3) for row in rows(settings)))
        assert await read(client, job) == numbers(40000)
        assert (await client.receipt(job)).complete
        after = objects(s3, bucket_name)
        assert before.items() <= after.items()
        assert len([name for name in after if name.endswith(".sealed")]) == len(rows(settings))


async def test_what_has_expired_leaves_the_disk_the_bucket_and_the_database(
    make_settings: MakeSettings, s3: Any, bucket_name: str
) -> None:
    """L21, L22: the log by its job's end, then the job by its own time; never a running job's."""
    settings = make_settings(log_segment_age="100ms", job_ttl="0s")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        running = await client.submit(["sh", "-c", "echo here; sleep 600"], log_ttl=3600.0)
        ended = [await client.submit(["seq", "40000"]) for _ in range(3)]
        for job in ended:
            await client.wait(job)
        uids = [(await client.receipt(job)).attempt_uid for job in ended]
        await until(lambda: sum(name.endswith("manifest.json") for name in objects(s3, bucket_name)) == 4)
        await until(lambda: not local(settings))
        engine = open_engine(settings.resolved_database_url)
        with engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.job_id.in_(ended)).values(logs_expire_at=0))
        await until(lambda: {name.split("/")[-2] for name in objects(s3, bucket_name)}.isdisjoint(uids))

        def left() -> list[str]:
            with engine.begin() as connection:
                return list(connection.execute(select(jobs.c.job_id)).scalars())

        await until(lambda: left() == [running])
        engine.dispose()
        await client.cancel(running, force=True)
        await client.wait(running)
        assert await read(client, running) == b"here\n"


async def test_a_tenant_has_a_time_of_its_own(make_settings: MakeSettings) -> None:
    """Where the job names none; the job's own wins."""
    settings = make_settings(log_ttl_tenants="short=1h, long=10d", log_ttl="5d")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        wanted = {
            await client.submit(["true"], tenant="short"): 3600,
            await client.submit(["true"], tenant="long"): 864000,
            await client.submit(["true"], tenant="other"): 432000,
            await client.submit(["true"], tenant="short", log_ttl=60.0): 60,
        }
        for job in wanted:
            await client.wait(job)
    engine = open_engine(settings.resolved_database_url)
    with engine.begin() as connection:
        found = connection.execute(select(jobs.c.job_id, jobs.c.ended_at, jobs.c.logs_expire_at)).all()
    engine.dispose()
    assert {row.job_id: (row.logs_expire_at - row.ended_at) // 1_000_000 for row in found} == wanted
