"""A machine's clock that is moved while a server runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_server.app import Server
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
        with structlog.testing.capture_logs() as said:
            move_clock(seconds)
            # Every loop has had its turn a few times.
            await asyncio.sleep(3.0)
        assert "retention.paused" in {entry["event"] for entry in said}
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
