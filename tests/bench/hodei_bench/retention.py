"""Retention: many logs go while jobs run; a turn keeps to its time, and jobs hardly notice."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from hodei_bench.filled import make_history
from hodei_bench.harness import Result, Setup, bench, percentile
from hodei_bench.jobs import one_job
from hodei_bench.running import RunningServer
from hodei_client import Client
from hodei_server.logs.retention import TIME_BUDGET


def _paths(folder: Path) -> tuple[list[Path], bytes]:
    """Return where the logs of the one real job and its copies belong, and what is in each."""
    [original] = (folder / "logs").rglob("*.closed")
    content, name = original.read_bytes(), original.name[26:]
    with contextlib.closing(sqlite3.connect(folder / "hodei.db")) as database:
        uids = [row[0] for row in database.execute("SELECT attempt_uid FROM log_segments ORDER BY attempt_uid")]
    paths = [folder / "logs" / uid[:2] / f"{uid}{name}" for uid in uids]
    return paths, content


def _write(paths: list[Path], content: bytes) -> None:
    for parent in {path.parent for path in paths}:
        parent.mkdir(exist_ok=True)
    for path in paths:
        path.write_bytes(content)


def _expire(folder: Path) -> None:
    """Let the time of all logs be over, one microsecond after the other."""
    with contextlib.closing(sqlite3.connect(folder / "hodei.db", timeout=60)) as database, database:
        database.execute("UPDATE jobs SET logs_expire_at = number")


def _unlink(paths: list[Path]) -> float:
    began = time.perf_counter()
    for path in paths:
        path.unlink()
    return time.perf_counter() - began


async def _latencies(client: Client, wanted: Callable[[int], bool]) -> list[float]:
    """Run jobs one after the other for as long as that is wanted; return milliseconds for each."""
    took: list[float] = []
    while wanted(len(took)):
        took.append(await one_job(client))
    return took


async def _prune(server: RunningServer, done: asyncio.Event) -> tuple[int, float, float]:
    """Have all that has expired removed; return how many logs, the seconds of the longest turn, and those of all."""
    began = turn = time.perf_counter()
    longest, removed = 0.0, 0
    async with server.client() as client:
        async for response in client.prune_logs():
            now = time.perf_counter()
            longest, turn = max(longest, now - turn), now
            removed = response.removed.jobs_with_logs
    done.set()
    return removed, longest, turn - began


@bench("retention", durable=True)
async def retention(setup: Setup) -> list[Result]:
    """100,000 expired logs, and their jobs, removed while other jobs run."""
    count = 1000 if setup.short else 100_000
    folder, _ = await make_history(setup, "retention", count)
    paths, content = await asyncio.to_thread(_paths, folder)
    await asyncio.to_thread(_write, paths, content)
    alone = await asyncio.to_thread(_unlink, paths)
    await asyncio.to_thread(_write, paths, content)
    # By the call alone, turn after turn without rest: the loop's own turns have four times as much rest as work.
    async with (
        setup.server(folder, worker_max_jobs="0", retention_interval="1d", job_ttl="0s") as server,
        server.client() as client,
    ):
        await one_job(client)
        idle = await _latencies(client, lambda number: number < (20 if setup.short else 200))
        await asyncio.to_thread(_expire, folder)
        done = asyncio.Event()
        async with setup.profiled("retention", server, "log", count):
            pruning = asyncio.create_task(_prune(server, done))
            during = await _latencies(client, lambda _: not done.is_set())
            removed, longest, seconds = await pruning
    left = sum(path.exists() for path in paths)
    if removed < count or left:
        raise RuntimeError(f"{removed} of {count} logs were removed, {left} files are left")
    note = f"{removed:,} logs"
    return [
        Result(
            "retention.removed",
            removed / seconds,
            "logs/s",
            more_is_better=True,
            peer=len(paths) / alone,
            peer_name="their files unlinked, and nothing else",
            note=f"{note}, rows and jobs included, without rest between turns",
        ),
        Result(
            "retention.longest-turn",
            longest,
            "s",
            peer=TIME_BUDGET,
            peer_name="the budget of a turn",
            aim=1.5 * TIME_BUDGET,
            note="a batch that was begun is ended",
        ),
        *(
            Result(
                f"retention.job-p{percent}",
                percentile(during, percent),
                "ms",
                peer=percentile(idle, percent),
                peer_name="the same without retention",
                note=f"{len(during):,} jobs one after the other on a warm worker, while the logs went",
            )
            for percent in (50, 99)
        ),
    ]
