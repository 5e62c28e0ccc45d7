"""Retention: many logs go while jobs run; a turn keeps to its time, and jobs hardly notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select, update

from hodei_bench.bucket import PlainBucket, plain_bucket
from hodei_bench.bucket import is_missing as is_without_s3
from hodei_bench.databases import is_missing, opened, postgresql
from hodei_bench.filled import make_history
from hodei_bench.harness import Result, Setup, bench, percentile
from hodei_bench.jobs import one_job
from hodei_bench.running import RunningServer
from hodei_client import Client
from hodei_logstore.s3.bucket import MAX_DELETES
from hodei_server.db.schema import jobs, log_segments
from hodei_server.logs.retention import TIME_BUDGET


def _write(paths: Sequence[Path], content: bytes) -> None:
    for parent in {path.parent for path in paths}:
        parent.mkdir(exist_ok=True)
    for path in paths:
        path.write_bytes(content)


def _unlink(paths: Sequence[Path]) -> float:
    began = time.perf_counter()
    for path in paths:
        path.unlink()
    return time.perf_counter() - began


def _uids(place: str | Path) -> list[str]:
    """Return the logs there are."""
    with opened(place) as engine, engine.connect() as database:
        return list(database.execute(select(log_segments.c.attempt_uid).order_by(log_segments.c.attempt_uid)).scalars())


def _expire(place: str | Path) -> None:
    """Let the time of all logs be over, one microsecond after the other."""
    with opened(place) as engine, engine.begin() as database:
        database.execute(update(jobs).values(logs_expire_at=jobs.c.number))


class OnDisk:
    """Logs in files: copies of the one real job's."""

    bare = "their files unlinked, and nothing else"

    def __init__(self, folder: Path, uids: Sequence[str]) -> None:
        [original] = (folder / "logs").rglob("*.closed")
        self._content, name = original.read_bytes(), original.name[26:]
        self._paths = [folder / "logs" / uid[:2] / f"{uid}{name}" for uid in uids]

    def make(self) -> float:
        """Make them; return how many of them go in a second by themselves."""
        _write(self._paths, self._content)
        rate = len(self._paths) / _unlink(self._paths)
        _write(self._paths, self._content)
        return rate

    def left(self) -> int:
        """Return how many are there."""
        return sum(path.exists() for path in self._paths)


class InBucket:
    """Logs in S3, each an object and a manifest: copies of the one real job's."""

    bare = f"their objects by DeleteObjects, {MAX_DELETES} in a call, and nothing else"

    def __init__(self, bucket: PlainBucket, uids: Sequence[str]) -> None:
        self._bucket = bucket
        [self._manifest, self._segment] = sorted(bucket.names(), key=lambda name: name.endswith(".sealed"))
        self._prefix = self._segment.split("/")[0]
        self._uids = uids

    def _put(self, prefix: str, uids: Sequence[str]) -> list[str]:
        """Store objects with the contents of the real job's."""
        names: list[str] = []
        for original in (self._manifest, self._segment):
            names += self._bucket.copy(original, [f"{prefix}/{uid}/{original.rpartition('/')[2]}" for uid in uids])
        return names

    def make(self) -> float:
        """Make them; return how many go in a second by themselves: of a tenth of them, elsewhere."""
        self._put(self._prefix, self._uids)
        some = self._uids[: max(100, len(self._uids) // 10)]
        names = self._put("bare", some)
        return len(some) / self._bucket.delete(names)

    def left(self) -> int:
        """Return how many objects are there; those of jobs that ran meanwhile do not count."""
        made = set(self._uids)
        return sum(name.split("/")[-2] in made for name in self._bucket.names())


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


async def removal(
    setup: Setup,
    name: str,
    count: int,
    make: Callable[[Path, Sequence[str]], OnDisk | InBucket],
    *,
    url: str = "",
    bucket: PlainBucket | None = None,
) -> list[Result]:
    """Have logs, and their jobs, removed while other jobs run.

    :param name: of the results' group.
    :param make: takes a server's folder and the logs that are to be there.
    """
    folder, _ = await make_history(setup, name, count, database_url=url, bucket=bucket)
    logs = make(folder, await asyncio.to_thread(_uids, url or folder))
    alone = await asyncio.to_thread(logs.make)
    settings = {"worker_max_jobs": "0", "retention_interval": "1d", "job_ttl": "0s"}
    settings |= {"database_url": url} if url else {}
    settings |= bucket.settings() if bucket is not None else {}
    # By the call alone, turn after turn without rest: the loop's own turns have four times as much rest as work.
    async with setup.server(folder, **settings) as server, server.client() as client:
        await one_job(client)
        idle = await _latencies(client, lambda number: number < (20 if setup.short else 200))
        await asyncio.to_thread(_expire, url or folder)
        done = asyncio.Event()
        async with setup.profiled(name, server, "log", count):
            pruning = asyncio.create_task(_prune(server, done))
            during = await _latencies(client, lambda _: not done.is_set())
            removed, longest, seconds = await pruning
    left = await asyncio.to_thread(logs.left)
    if removed < count or left:
        raise RuntimeError(f"{removed} of {count} logs were removed, {left} files or objects are left")
    note = f"{removed:,} logs"
    return [
        Result(
            f"{name}.removed",
            removed / seconds,
            "logs/s",
            more_is_better=True,
            peer=alone,
            peer_name=logs.bare,
            note=f"{note}, rows and jobs included, without rest between turns",
        ),
        Result(
            f"{name}.longest-turn",
            longest,
            "s",
            peer=TIME_BUDGET,
            peer_name="the budget of a turn",
            aim=1.5 * TIME_BUDGET,
            note="a batch that was begun is ended",
        ),
        *(
            Result(
                f"{name}.job-p{percent}",
                percentile(during, percent),
                "ms",
                peer=percentile(idle, percent),
                peer_name="the same without retention",
                note=f"{len(during):,} jobs one after the other on a warm worker, while the logs went",
            )
            for percent in (50, 99)
        ),
    ]


@bench("retention", durable=True)
async def retention(setup: Setup) -> list[Result]:
    """100,000 expired logs, and their jobs, removed while other jobs run."""
    return await removal(setup, "retention", 1000 if setup.short else 100_000, OnDisk)


@bench("retention-postgresql")
async def retention_postgresql(setup: Setup) -> list[Result]:
    """The same 100,000 where PostgreSQL keeps the jobs."""
    if is_missing("retention-postgresql"):
        return []
    with postgresql() as url:
        return await removal(setup, "retention-postgresql", 1000 if setup.short else 100_000, OnDisk, url=url)


@bench("retention-s3")
async def retention_s3(setup: Setup) -> list[Result]:
    """10,000 expired logs in S3, an object and a manifest each, removed while other jobs run."""
    if is_without_s3("retention-s3"):
        return []
    with plain_bucket() as bucket:
        count = 300 if setup.short else 10_000
        return await removal(setup, "retention-s3", count, lambda _, uids: InBucket(bucket, uids), bucket=bucket)
