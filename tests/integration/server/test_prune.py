"""What an operator removes without waiting for retention, and what is told before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from hodei_client import Chunk, Client, ClientSettings, Cut, PreconditionError
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import jobs

#: 2026-01-02, 06:00 UTC, in microseconds.
LONG_AGO = 1_767_333_600_000_000


def expire(server: Server, *job_ids: str) -> None:
    """Let the time of jobs' logs be over."""
    engine = open_engine(server.settings.resolved_database_url)
    with engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.job_id.in_(job_ids)).values(logs_expire_at=LONG_AGO))
    engine.dispose()


def files(server: Server) -> list[Path]:
    """Return the files of logs."""
    return [path for path in (server.settings.data_dir / "logs").rglob("*") if path.is_file()]


async def test_a_dry_run_tells_what_would_go_and_then_it_goes(make_settings: Any, hodei: Any) -> None:
    """L21, L22: with its bytes on the disk; what has time left, and what runs, stays."""
    async with (
        Server(make_settings(retention_interval="1h"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        running = await client.submit(["sh", "-c", "echo here; sleep 600"], log_ttl=0.001)
        ended = [await client.submit(["echo", "gone"], tenant=tenant) for tenant in ("a", "a", "b")]
        kept = await client.submit(["echo", "kept"])
        for job in [*ended, kept]:
            await client.wait(job)
        async for _ in client.logs(running):
            break
        expire(server, *ended)
        uids = [(await client.receipt(job)).attempt_uid for job in ended]
        while any(path.suffix == ".open" and path.name[:26] in uids for path in files(server)):
            await asyncio.sleep(0.05)  # a size that is told is of what is sealed
        sizes = {uid: sum(path.stat().st_size for path in files(server) if path.name.startswith(uid)) for uid in uids}

        code, out, _ = await hodei(server, "logs", "prune", "--dry-run", "-o", "json")
        told = json.loads(out)
        figures = {group["tenant"]: (group["jobs"], group["logs"], group["disk_bytes"]) for group in told["groups"]}
        assert code == 0
        assert figures == {"a": (2, 2, sizes[uids[0]] + sizes[uids[1]]), "b": (1, 1, sizes[uids[2]])}
        assert {group["day"] for group in told["groups"]} == {"2026-01-02"}
        assert told["jobs"] == 0
        assert not (await client.receipt(ended[0])).expired
        code, out, err = await hodei(server, "logs", "prune", "--dry-run")
        assert b"2026-01-02" in out
        assert b"3 logs would go" in err

        code, out, _ = await hodei(server, "logs", "prune", "-o", "json")
        removed = json.loads(out)
        assert code == 0
        assert (removed["jobs_with_logs"], removed["segments"], removed["done"]) == (3, 3, True)
        assert removed["disk_bytes"] == sum(sizes.values())
        assert not any(path.name.startswith(tuple(uids)) for path in files(server))
        for job in ended:
            assert (await client.receipt(job)).expired
            events = [event async for event in client.logs(job)]
            assert isinstance(events[0], Cut)
        assert [event.data async for event in client.logs(kept) if isinstance(event, Chunk)] == [b"kept\n"]
        async for event in client.logs(running):
            assert isinstance(event, Chunk)
            break
        code, out, _ = await hodei(server, "logs", "prune")
        assert (code, out[:26]) == (0, b"removed the logs of 0 jobs")
        await client.cancel(running, force=True)
        await client.wait(running)


async def test_nothing_is_removed_by_a_clock_that_was_moved(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L21: not by an operator's call either, and it says why; what would go is told all the same."""
    job = await client.submit(["echo", "kept"])
    await client.wait(job)
    expire(server, job)
    monkeypatch.setattr("hodei_server.clock_watch.clock_moved_seconds", lambda: 3600.0)
    with pytest.raises(PreconditionError, match="clock"):
        [each async for each in client.prune_logs()]
    [summary] = [each.expired async for each in client.prune_logs(dry_run=True)]
    assert summary.groups[0].jobs == 1
    assert not (await client.receipt(job)).expired
