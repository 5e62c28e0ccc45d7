"""A database that is restored from an older copy, beside newer logs and workers that it does not know."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings, LogPlace
from hodei_faults import worker_pids
from hodei_faults.ports import fixed_ports
from hodei_server.app import Server
from hodei_server.installation import RESTORED
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database as a backup does."""
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def restore(copy: Path, folder: Path) -> None:
    """Put a copy in the database's place."""
    for leftover in folder.glob("hodei.db-*"):
        leftover.unlink()
    shutil.copy(copy, folder / "hodei.db")


def sealed_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all sealed segments by name."""
    files = (folder / "logs").rglob("*")
    return {path.name: path.read_bytes() for path in files if path.suffix in {".sealed", ".closed"}}


def segment_names(folder: Path) -> set[str]:
    """Return the names of all segments, whatever their form."""
    return {path.stem for path in (folder / "logs").rglob("*") if path.is_file()}


async def file_appears(path: Path) -> None:
    """Wait for a file that is written by a job."""
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.02)


async def sealed_appear(folder: Path) -> None:
    """Wait until every segment is sealed."""
    async with asyncio.timeout(60):
        while list((folder / "logs").rglob("*.open")):
            await asyncio.sleep(0.05)


async def stdout(client: Client, job: str, attempt: int) -> bytes:
    """Return what an attempt wrote."""
    data = b""
    async for event in client.logs(job, place=LogPlace(attempt=attempt), follow=False):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            data += event.data
    return data


async def test_unfinished_jobs_run_again_and_nothing_on_the_disk_is_touched(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W11, W14: new attempts with logs of their own; `explain` tells why; unknown workers are removed before that."""
    # So that the copy is old after moments.
    monkeypatch.setattr("hodei_server.loops.generation.SECONDS", 0.1)
    settings = make_settings(log_segment="64Ki", lease="1s", ping_interval="200ms")
    data = settings.data_dir
    script = (
        "echo $HODEI_ATTEMPT_UID >> {0}.runs; seq 1 30000; touch {0}.begun; "
        "while [ ! -e {0}.go ]; do sleep 0.02; done; seq 30001 60000"
    )
    many = b"".join(b"%d\n" % number for number in range(1, 60001))
    first = Server(settings)
    await first.__aenter__()
    async with Client(settings=ClientSettings(first.address)) as client:
        # It runs while the copy is made, and ends later.
        early = await client.submit(
            ["sh", "-c", script.format(tmp_path / "early")], retry=wire.RetryPolicy(max_infrastructure_retries=1)
        )
        await file_appears(tmp_path / "early.begun")
        await asyncio.to_thread(copy_database, data / "hodei.db", tmp_path / "copy.db")
        (tmp_path / "early.go").touch()
        await client.wait(early)
        await sealed_appear(data)
        # It is submitted after the copy was made, and still runs when that is restored.
        late = await client.submit(["sh", "-c", script.format(tmp_path / "late")])
        await file_appears(tmp_path / "late.begun")
        assert worker_pids(data)
    await first.__aexit__(None, None, None)
    sealed, names = sealed_files(data), segment_names(data)
    assert sealed
    restore(tmp_path / "copy.db", data)
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        # What nobody knows of is gone before anything is started.
        assert await client.wait(early)
        told = await client.get(early)
        assert told.outcome.state == wire.JOB_STATE_SUCCEEDED
        assert [attempt.outcome.cause for attempt in told.attempts] == [wire.CAUSE_WORKER_LOST, wire.CAUSE_EXIT_CODE]
        assert RESTORED in [event.reason for event in (await client.explain(early)).events]
        runs = (tmp_path / "early.runs").read_text().split()
        assert runs == [attempt.attempt_uid for attempt in told.attempts]
        # All of the first attempt's log is found again, behind what the copy knew of it.
        assert await stdout(client, early, 1) == many
        assert await stdout(client, early, 2) == many
        assert late not in [job.job_id async for job in client.list()]
    assert not worker_pids(data)
    after = sealed_files(data)
    assert {name: after.get(name) for name in sealed} == sealed
    assert names < segment_names(data)


async def test_logs_that_a_restored_database_does_not_know_go_after_a_while(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L20: what it knows stays; the right copy, put back before, finds everything."""
    monkeypatch.setattr("hodei_server.loops.generation.SECONDS", 0.1)
    settings = make_settings()
    data = settings.data_dir
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        known = await client.submit(["seq", "30000"])
        await client.wait(known)
        await sealed_appear(data)
        await asyncio.to_thread(copy_database, data / "hodei.db", tmp_path / "copy.db")
        names = segment_names(data)
        late = await client.submit(["seq", "40000"])
        await client.wait(late)
        await sealed_appear(data)
    await asyncio.to_thread(copy_database, data / "hodei.db", tmp_path / "right.db")
    restore(tmp_path / "copy.db", data)
    async with Server(settings):
        pass
    restore(tmp_path / "right.db", data)
    async with Server(settings) as second, Client(settings=ClientSettings(second.address)) as client:
        assert await stdout(client, late, 1) == b"".join(b"%d\n" % number for number in range(1, 40001))
    restore(tmp_path / "copy.db", data)
    async with (
        Server(make_settings(log_orphan_grace="500ms"), ephemeral=True) as third,
        Client(settings=ClientSettings(third.address)) as client,
    ):
        async with asyncio.timeout(60):
            while segment_names(data) != names:
                await asyncio.sleep(0.05)
        assert await stdout(client, known, 1) == b"".join(b"%d\n" % number for number in range(1, 30001))


async def test_a_worker_that_nobody_finds_is_refused_and_ends_with_its_job(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W35: the provider has lost its record and removes nothing; the worker comes back, is told, and goes by itself."""
    monkeypatch.setattr("hodei_server.loops.generation.SECONDS", 0.1)
    # Where the workers find the next server.
    settings = make_settings(**fixed_ports())
    data = settings.data_dir
    first = Server(settings)
    await first.__aenter__()
    async with Client(settings=ClientSettings(first.address)) as client:
        await asyncio.to_thread(copy_database, data / "hodei.db", tmp_path / "copy.db")
        await client.submit(["sh", "-c", f"trap '' TERM; echo $$ > {tmp_path / 'pid'}; sleep 600 & wait"])
        await file_appears(tmp_path / "pid")
        (worker,) = worker_pids(data)
    await first.__aexit__(None, None, None)
    (record,) = data.glob("providers/process/workers/*/worker.json")
    words = (record.parent / "worker.log").open()
    record.unlink()
    restore(tmp_path / "copy.db", data)
    with structlog.testing.capture_logs() as entries, words:
        async with Server(settings) as second:
            await gone(worker)
            await gone(int((tmp_path / "pid").read_text()))
            # Where the answer is lost it asks once more.
            assert set(second.sessions.refusals) == {"session"}
            assert "refused by the server: the session is not known" in words.read()
    removed = {"worker.stray_removed", "worker.gone"}
    assert not removed & {entry["event"] for entry in entries}


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}/exe").exists():
            await asyncio.sleep(0.02)


async def test_a_copy_that_is_in_use_is_no_restored_one(make_settings: MakeSettings) -> None:
    """However often the server is started."""
    settings = make_settings()
    for _ in range(3):
        async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
            job = await client.submit(["true"])
            await client.wait(job)
            assert RESTORED not in [event.reason for event in (await client.explain(job)).events]
