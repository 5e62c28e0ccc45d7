"""A machine's clock that is moved, while a server runs or while none does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from hodei import clock
from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults.ports import fixed_ports
from hodei_server.app import Server
from hodei_server.db.clock import confirm_clock
from hodei_server.db.engine import open_engine
from hodei_server.db.transaction import Transaction
from hodei_server.settings import Settings

DAY = 86400


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what moves this process's clock, and so the server's, by seconds; its workers keep theirs.

    Only `time_ns` moves, which is what Hodei asks: gRPC's own deadlines are made of `time` here and kept in C there.
    """
    real = time.time_ns

    def move(seconds: float) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))

    return move


@pytest.fixture
def restart_clock(move_clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what moves the clock for a server that is not started yet: it takes it as it is."""
    began = clock._OFFSET_NS

    def move(seconds: float) -> None:
        move_clock(seconds)
        monkeypatch.setattr(clock, "_OFFSET_NS", began + int(seconds * 1e9))

    return move


async def three_jobs(client: Client, go: Path) -> tuple[str, str, str]:
    """Submit one job that has ended, one that runs until a file is there, and one that waits for its place."""
    old = await client.submit(["echo", "old"])
    await client.wait(old)
    running = await client.submit(
        ["sh", "-c", f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after"], run_timeout=600.0
    )
    async with asyncio.timeout(30):
        async for event in client.logs(running):
            assert isinstance(event, Chunk)
            break
    waiting = await client.submit(["echo", "waited"], queue_timeout=600.0)
    return old, running, waiting


async def several_turns(said: Sequence[Mapping[str, Any]], *events: str) -> None:
    """Let every loop have its turn a few times, and wait until the server has said some things."""
    await asyncio.sleep(3.0)
    async with asyncio.timeout(60):
        while not {entry["event"] for entry in said} >= set(events):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("seconds", [30 * DAY, -30 * DAY])
async def test_a_clock_that_jumps_ends_no_job_and_removes_no_log(
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    move_clock: Callable[[float], None],
    seconds: float,
) -> None:
    """L21, W05, W25: deadlines, leases and times to live run on; retention pauses and says so."""
    go = tmp_path / "go"
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "1")
    settings = make_settings(retention_interval="100ms", lease="1s", ping_interval="200ms")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        old, running, waiting = await three_jobs(client, go)
        with structlog.testing.capture_logs() as said:
            move_clock(seconds)
            await several_turns(said, "retention.paused")
        assert (await client.get(running)).state == wire.JOB_STATE_RUNNING
        assert (await client.get(waiting)).state == wire.JOB_STATE_QUEUED
        go.touch()
        for job, text in ((running, b"before\nafter\n"), (waiting, b"waited\n"), (old, b"old\n")):
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            events = [event async for event in client.logs(job) if isinstance(event, Chunk)]
            assert b"".join(event.data for event in events) == text
            assert [event.time for event in events] == sorted(event.time for event in events)
        told = await client.get(waiting)
        assert told.submit_time.ToNanoseconds() <= told.attempts[0].start_time.ToNanoseconds()


@pytest.mark.parametrize("seconds", [30 * DAY, -30 * DAY])
async def test_a_clock_that_was_moved_across_a_restart_ends_no_job_and_removes_no_log(
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    restart_clock: Callable[[float], None],
    seconds: float,
) -> None:
    """L21, W05: deadlines are moved with the clock; retention pauses until somebody confirms it."""
    go = tmp_path / "go"
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "1")
    quick = {"retention_interval": "100ms", "lease": "1s", "ping_interval": "200ms", "orphan_after": "60s"}
    settings = make_settings(**fixed_ports(), **quick)
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        old, running, waiting = await three_jobs(client, go)
    restart_clock(seconds)
    with structlog.testing.capture_logs() as said:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            await several_turns(said, "clock.moved", "retention.paused")
            assert (await client.get(running)).state == wire.JOB_STATE_RUNNING
            assert (await client.get(waiting)).state == wire.JOB_STATE_QUEUED
            go.touch()
            for job, text in ((running, b"before\nafter\n"), (waiting, b"waited\n"), (old, b"old\n")):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
                events = [event async for event in client.logs(job) if isinstance(event, Chunk)]
                assert b"".join(event.data for event in events) == text
            told = await client.get(waiting)
            assert told.submit_time.ToNanoseconds() <= told.attempts[0].start_time.ToNanoseconds()
            confirm(settings)
            async with asyncio.timeout(30):
                # What is older than its time to live by the clock as it is goes, and nothing else.
                while seconds > 0 and not (await client.receipt(old)).expired:
                    await asyncio.sleep(0.05)
            assert not (await client.receipt(running)).expired


async def test_a_clock_that_was_set_back_to_what_it_was_needs_nobody(
    make_settings: Callable[..., Settings], restart_clock: Callable[[float], None]
) -> None:
    """L21: logs whose time has come go again."""
    settings = make_settings(retention_interval="50ms", log_ttl="1s")
    async with Server(settings):
        pass
    restart_clock(30 * DAY)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["echo", "x"])
        await client.wait(job)
        # Longer than its time to live.
        await asyncio.sleep(2.0)
        assert not (await client.receipt(job)).expired
    restart_clock(0)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["echo", "x"])
        await client.wait(job)
        async with asyncio.timeout(30):
            while not (await client.receipt(job)).expired:
                await asyncio.sleep(0.05)


def confirm(settings: Settings) -> None:
    """Do as `hodei db confirm-clock` does."""
    engine = open_engine(settings.resolved_database_url)
    with engine.connect().execution_options(hodei_writer=True) as connection, connection.begin():
        assert confirm_clock(Transaction(connection))
    engine.dispose()
