"""What becomes of logs after their jobs have ended."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, AttemptEnd, Chunk, Client, ClientSettings, Cut
from hodei_faults.servers import ServerProcess
from hodei_providers.faults import VARIABLE as FAULT_POINT
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import jobs, log_segments
from hodei_server.db.segments import Place, SegmentState
from hodei_server.settings import Settings

#: The default of HODEI_LOG_TTL, in microseconds.
SEVEN_DAYS = 7 * 24 * 3600 * 1_000_000


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
    # By then it has printed all of that on a busy machine, too.
    too_long = await client.submit(["sh", "-c", f"{print_all} sync_up"], run_timeout=8.0)
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


async def test_a_log_is_kept_for_seven_days_where_nobody_says_otherwise(make_settings: Any) -> None:
    """L21: from the job's end on, whatever became of it; one that has had an hour less stays."""
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        ended = [await client.submit(["sh", "-c", f"echo here; exit {code}"]) for code in (0, 1)]
        cancelled = await client.submit(["sh", "-c", "echo here; sleep 600"])
        async for _ in client.logs(cancelled):
            break
        await client.cancel(cancelled, force=True)
        running = await client.submit(["sh", "-c", "echo here; sleep 600"])
        for job in (*ended, cancelled):
            await client.wait(job)
        engine = open_engine(server.settings.resolved_database_url)
        columns = jobs.c
        with engine.connect().execution_options(hodei_writer=True) as connection, connection.begin():
            found = connection.execute(select(columns.job_id, columns.ended_at, columns.logs_expire_at)).all()
            kept = {row.job_id: row.logs_expire_at and row.logs_expire_at - row.ended_at for row in found}
            # As if they had ended before: one of them for a second longer than that, the others for an hour less.
            for job in (*ended, cancelled):
                ago = SEVEN_DAYS + 1_000_000 if job == ended[0] else SEVEN_DAYS - 3_600_000_000
                moved = {"ended_at": columns.ended_at - ago, "logs_expire_at": columns.logs_expire_at - ago}
                connection.execute(update(jobs).where(columns.job_id == job).values(moved))
        engine.dispose()
        assert kept == dict.fromkeys((*ended, cancelled), SEVEN_DAYS) | {running: None}
        async with asyncio.timeout(60):
            while not (await client.receipt(ended[0])).expired:
                await asyncio.sleep(0.05)
        for job in (ended[1], cancelled):
            assert [event.data async for event in client.logs(job) if isinstance(event, Chunk)] == [b"here\n"]
        await client.cancel(running, force=True)
        await client.wait(running)


def segments_in(settings: Settings) -> set[tuple[int, int]]:
    """Return the states and places of all segments."""
    engine = open_engine(settings.resolved_database_url)
    with engine.begin() as connection:
        rows = connection.execute(select(log_segments.c.state, log_segments.c.place)).all()
    engine.dispose()
    return {(row.state, row.place) for row in rows}


@pytest.mark.parametrize("point", ["retention.marked", "retention.removed"])
async def test_what_a_server_that_dies_leaves_of_an_expired_log_is_removed_by_the_next(
    make_settings: Any, tmp_path: Path, point: str
) -> None:
    """L21, L22: killed before the bytes go, and before it is written down that they have gone."""
    settings = make_settings(retention_interval="1h")
    logs = settings.data_dir / "logs"
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["seq", "30000"], log_ttl=0.001)
        await client.wait(job)
        await files(logs, "*.sealed", 1)
        await files(logs, "*.open", 0)
    process = ServerProcess(settings, tmp_path / "server.log")
    await process.start(**{FAULT_POINT: point, "HODEI_RETENTION_INTERVAL": "300ms"})
    assert await process.died() == -signal.SIGKILL
    assert segments_in(settings) == {(int(SegmentState.EXPIRED), int(Place.DISK))}
    assert len(list(logs.rglob("*.sealed"))) == (point == "retention.marked")
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        async with asyncio.timeout(60):
            while segments_in(settings) != {(int(SegmentState.EXPIRED), int(Place.NOWHERE))}:
                await asyncio.sleep(0.05)
        assert not [path for path in logs.rglob("*") if path.is_file()]
        receipt = await client.receipt(job)
        assert (receipt.expired, receipt.lines) == (True, 30000)
        (told, end) = [event async for event in client.logs(job)]
        assert isinstance(told, Cut)
        assert told.expired
        assert isinstance(end, AttemptEnd)
