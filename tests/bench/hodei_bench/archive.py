"""A log's way to S3 and back, beside boto3 alone with the same bytes on the same server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hodei_bench.bucket import AT_ONCE, PlainBucket, is_missing, plain_bucket
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.logs import follow_whole
from hodei_bench.seek import make
from hodei_logstore.file import FileLogStore
from hodei_logstore.s3 import S3LogStore
from hodei_server.data_folder import DataFolder
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.segments import Segment, SegmentState, segments_of
from hodei_server.installation import identify
from hodei_server.log_archive import archived_store
from hodei_server.loops.archive import Archiver
from hodei_server.settings import load_settings

#: Written once and repeated: far apart enough that no compressor sees it twice.
DIFFERENT_BYTES = 16 << 20
#: Where a segment ends: HODEI_LOG_SEGMENT's default, and the size of the peer's objects.
SEGMENT_BYTES = 64 << 20
WORDS = ("request", "handled", "worker", "queue", "retry", "timeout", "connected", "flush", "segment", "index")


def write_log(file: Path, size: int) -> Path:
    """Write lines as services do: a time, words, numbers; they compress to about a quarter."""
    rng = random.Random(1)  # noqa: S311 - the same lines each time
    lines: list[bytes] = []
    held = 0
    while held < min(size, DIFFERENT_BYTES) - 128:
        lines.append(
            b"2026-11-25T04:%02d:%02d.%06d INFO %s %s id=%016x took=%dus user=%d\n"
            % (
                len(lines) // 60000 % 60,
                len(lines) // 1000 % 60,
                rng.randrange(1_000_000),
                rng.choice(WORDS).encode(),
                rng.choice(WORDS).encode(),
                rng.getrandbits(64),
                rng.randrange(10_000),
                rng.randrange(5_000),
            )
        )
        held += len(lines[-1])
    data = b"".join(lines)
    with file.open("wb") as out:
        for _ in range(max(1, size // len(data))):
            out.write(data)
    return file


def copy_data(data: Path, copy: Path) -> None:
    """Copy what a server that has ended has left: its database, who it is, its logs."""
    copy.mkdir()
    for path in data.iterdir():
        if path.is_file() and path.name != "lock":
            shutil.copy(path, copy)
    shutil.copytree(data / "logs", copy / "logs")


@contextlib.asynccontextmanager
async def opened(folder: Path, bucket: PlainBucket) -> AsyncIterator[tuple[S3LogStore, Database, str]]:
    """Open a server's data without the server; yield its store, its database and the owner of its segments."""
    settings = load_settings({"data_dir": str(folder), **bucket.settings()})
    engine = open_engine(settings.resolved_database_url, settings.durability)
    try:
        with DataFolder(folder) as held:
            async with Database(engine) as database:
                installation = await identify(database, held)
                disk = FileLogStore(folder / "logs")
                async with archived_store(disk, settings, installation.installation_id) as store:
                    # The client and its first connection; the peer's are there, too.
                    await store.objects(limit=1)
                    yield store, database, installation.server_id
    finally:
        engine.dispose()


async def archive_all(folder: Path, bucket: PlainBucket) -> float:
    """Bring all segments of a data folder to S3, as the server does; return seconds."""
    async with opened(folder, bucket) as (store, database, owner):
        archiver = Archiver(store, database, owner)
        began = time.perf_counter()
        while await archiver.run_once():
            pass
        took = time.perf_counter() - began
    left = [path for path in (folder / "logs").rglob("*") if path.is_file()]
    if left:
        raise RuntimeError(f"{left} has not gone to S3")
    return took


async def read_all(folder: Path, bucket: PlainBucket, attempt_uid: str) -> tuple[float, int]:
    """Read a log block by block at the store, which remembers nothing of it; return seconds and bytes."""
    async with opened(folder, bucket) as (store, database, _):
        segments = await database.read(lambda tx: segments_of(tx, attempt_uid))
        began = time.perf_counter()
        size = 0
        for segment in segments:
            size += await read_segment(store, segment)
        return time.perf_counter() - began, size


async def read_segment(store: S3LogStore, segment: Segment) -> int:
    """Read a segment from its beginning to its end; return the bytes of its blocks."""
    sequence, size = segment.first_sequence, 0
    if segment.state in {SegmentState.CUT, SegmentState.EXPIRED}:
        raise RuntimeError(f"{segment} is not kept")
    while sequence < segment.next_sequence:
        blocks = await store.read(segment.key, sequence)
        size += sum(len(block.data) for block in blocks)
        sequence = blocks[-1].next_sequence
    return size


async def follow(setup: Setup, folder: Path, job_id: str, size: int, **settings: str) -> float:
    """Start a server that remembers nothing; follow a log of its history to the end; return seconds."""
    async with setup.server(folder, **settings) as server, server.client() as client:
        # The connection, and all that a first call makes ready, is not the log's.
        await client.get(job_id)
        async with setup.profiled("archive", server, "MiB of log", size / (1 << 20)):
            began = time.perf_counter()
            await follow_whole(client, job_id, size)
            return time.perf_counter() - began


@bench("archive")
async def archive(setup: Setup) -> list[Result]:
    """A log goes to S3 and is read from there, beside boto3 alone with the same bytes; runs and limits take turns."""
    if is_missing("archive"):
        return []
    wanted, times = (32 << 20, 1) if setup.short else (256 << 20, 5)
    file = write_log(setup.folder / "log", wanted)
    size, data = file.stat().st_size, setup.folder / "data"
    settings = {"worker_max_jobs": "0", "log_budget": "4Gi"}
    async with setup.server(data, **settings) as server, server.client() as client:
        log = await make(server, client, file)
        uid = (await client.receipt(log.job_id)).attempt_uid
    disk = [await follow(setup, data, log.job_id, size) for _ in range(times)]
    uploads, puts, reads, gets, follows = [], [], [], [], []
    with plain_bucket() as bucket:
        sealed = [path for path in (data / "logs").rglob("*.sealed") if path.is_file()]
        stored = sum(path.stat().st_size for path in sealed)
        for number in range(times):
            # Each run has a copy of its own, and the last one stays to be read.
            copy = setup.folder / f"copy{number}"
            copy_data(data, copy)
            os.sync()
            # What is there already would not be uploaded again.
            await asyncio.to_thread(bucket.clear)
            puts.append(await asyncio.to_thread(bucket.put, sealed))
            uploads.append(await archive_all(copy, bucket))
        names = await asyncio.to_thread(bucket.put_compressed, file, SEGMENT_BYTES)
        for _ in range(times):
            took, found = await asyncio.to_thread(bucket.get_compressed, names)
            gets.append(took)
            reads.append((await read_all(copy, bucket, uid))[0])
            follows.append(await follow(setup, copy, log.job_id, size, **bucket.settings()))
            if found != size:
                raise RuntimeError(f"{found} bytes came of {size}")
    get = statistics.median(gets)
    note = f"{size >> 20} MiB of log, {stored / size:.2f} of that when compressed"
    unpacked = "boto3's get, one object of each segment's size after the other, and zstd"
    followed = statistics.median(follows)
    return [
        Result(
            "archive.upload",
            statistics.median(uploads),
            "s",
            peer=statistics.median(puts),
            peer_name=f"boto3's put of the same files, {AT_ONCE} at once",
            aim=0.8,
            aim_of="ratio",
            note=f"{note}; compared, uploaded, asked for, noted, removed from the disk",
        ),
        Result(
            "archive.read",
            statistics.median(reads),
            "s",
            peer=get,
            peer_name=unpacked,
            aim=0.8,
            aim_of="ratio",
            note=f"{note}; block by block at the store's `read`",
        ),
        Result(
            "archive.follow",
            followed,
            "s",
            peer=get,
            peer_name=unpacked,
            aim=0.8,
            aim_of="ratio",
            note=f"{note}; through a server to a client that compares the checksum",
        ),
        Result(
            "archive.follow-beside-disk",
            followed,
            "s",
            peer=statistics.median(disk),
            peer_name="the same from the server's disk",
            note=note,
        ),
    ]
