"""What becomes of logs after their jobs have ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sqlalchemy import update

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, AttemptEnd, Chunk, Client, ClientSettings, Cut
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import jobs


async def files(folder: Path, pattern: str, count: int) -> None:
    """Wait until there are so many files."""
    async with asyncio.timeout(60):
        while len(list(folder.rglob(pattern))) != count:
            await asyncio.sleep(0.05)


async def test_logs_are_compressed_after_the_end_and_read_the_same(server: Server, client: Client) -> None:
    """L19, L20: whatever became of the job; the open form goes when the other is there."""
    print_all = "seq 10000; sync_up() { while :; do sleep 0.05; done; }; "
    ended = [await client.submit(["sh", "-c", f"seq 10000; exit {code}"]) for code in (0, 1)]
    killed = await client.submit(["sh", "-c", "seq 10000; kill -9 $$"])
    too_long = await client.submit(["sh", "-c", f"{print_all} sync_up"], run_timeout=1.0)
    cancelled = await client.submit(["sh", "-c", f"{print_all} sync_up"])
    async for event in client.logs(cancelled):
        if isinstance(event, Chunk) and event.data.endswith(b"10000\n"):
            break
    await client.cancel(cancelled)
    jobs = [*ended, killed, too_long, cancelled]
    outcomes = [(await client.wait(job)).cause for job in jobs]
    assert outcomes == [
        wire.CAUSE_EXIT_CODE,
        wire.CAUSE_EXIT_CODE,
        wire.CAUSE_SIGNAL,
        wire.CAUSE_RUN_TIMEOUT,
        wire.CAUSE_CANCELLED,
    ]
    await files(server.settings.data_dir / "logs", "*.sealed", len(jobs))
    await files(server.settings.data_dir / "logs", "*.open", 0)
    expected = b"".join(b"%d\n" % number for number in range(1, 10_001))
    for job in jobs:
        events = [event async for event in client.logs(job) if isinstance(event, Chunk) and event.stream == STDOUT]
        assert b"".join(event.data for event in events) == expected
        assert (await client.receipt(job)).complete


async def test_the_time_of_a_file_says_nothing_about_its_log(make_settings: object) -> None:
    """L21: files that look a year old stay; files that look new go with their job's time."""
    assert callable(make_settings)
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        logs = server.settings.data_dir / "logs"
        kept = await client.submit(["echo", "kept"])
        await client.wait(kept)
        await files(logs, "*.closed", 1)
        for path in logs.rglob("*.closed"):
            os.utime(path, (0, 0))
        gone = await client.submit(["echo", "gone"], log_ttl=0.001)
        await client.wait(gone)
        async with asyncio.timeout(60):
            while not (await client.receipt(gone)).expired:
                await asyncio.sleep(0.05)
        assert [event.data async for event in client.logs(kept) if isinstance(event, Chunk)] == [b"kept\n"]


async def test_logs_go_when_their_time_has_passed_and_the_receipt_stays(make_settings: object) -> None:
    """L21, L22: by the recorded end; a running job's log is never touched."""
    assert callable(make_settings)
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        running = await client.submit(["sh", "-c", "echo here; sleep 600"], log_ttl=0.001)
        ended = await client.submit(["echo", "gone"], log_ttl=0.001)
        await client.wait(ended)
        async with asyncio.timeout(60):
            while not (await client.receipt(ended)).expired:
                await asyncio.sleep(0.05)
        told, end = [event async for event in client.logs(ended)]
        assert told == Cut(1, 0, 0, 5, 1, expired=True)
        assert isinstance(end, AttemptEnd)
        assert (end.receipt.bytes, end.receipt.expired) == (5, True)
        async for event in client.logs(running):
            assert isinstance(event, Chunk)
            assert event.data == b"here\n"
            break
        await client.cancel(running, force=True)
        await client.wait(running)


async def test_what_has_expired_under_a_reader_is_told_beside_what_was_cut(make_settings: object) -> None:
    """L15, L21: a reader that was half-way, and one that begins, find no gap that nobody told of."""
    assert callable(make_settings)
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        # More than the connection holds by itself: the reader is half-way, and so is the server.
        job = await client.submit(["seq", "4000000"], log_budget_bytes=16 << 20, log_ttl=3600.0)
        await client.wait(job)
        assert (await client.receipt(job)).truncated
        reading = client.logs(job)
        first = await anext(reading)
        assert isinstance(first, Chunk)
        engine = open_engine(server.settings.resolved_database_url)
        with engine.begin() as connection:
            connection.execute(update(jobs).values(logs_expire_at=0))
        engine.dispose()
        async with asyncio.timeout(60):
            while not (await client.receipt(job)).expired:
                await asyncio.sleep(0.05)
        async for event in reading:
            last = event
        assert isinstance(last, AttemptEnd)
        assert last.receipt.expired
        events = [event async for event in client.logs(job)]
        cuts = [event for event in events if isinstance(event, Cut)]
        assert [cut.expired for cut in cuts] == [True, False, True]
        assert sum(cut.bytes for cut in cuts) == last.receipt.bytes
        assert len(events) == len(cuts) + 1
