"""Segments that wait to be compressed, what is said of those that are not there, and how many are removed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from hodei.v1 import types_pb2 as wire
from hodei_logstore.contract import SegmentInfo, SegmentKey, SegmentNotFoundError, StoreUnavailableError
from hodei_logstore.memory import MemoryLogStore
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.retention import expired_jobs
from hodei_server.db.schema import jobs, log_segments
from hodei_server.db.segments import Place, Segment, SegmentState, close_segment, mark_segments
from hodei_server.db.transaction import Transaction
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.logs.retention import EXPIRE_BATCH, REMOVE_BATCH, TIME_BUDGET, Retention
from hodei_server.loops.sealing import sealing_loop


class LosesSegments(MemoryLogStore):
    """Has none of the segments that it is to seal; `before` is done to each just before it says so."""

    def __init__(self, before: Callable[[SegmentKey], asyncio.Future[None] | None]) -> None:
        super().__init__()
        self.asked: list[SegmentKey] = []
        self.asked_twice = asyncio.Event()
        self._before = before

    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Fail."""
        waiting = self._before(key)
        if waiting is not None:
            await waiting
        self.asked.append(key)
        if len(self.asked) == 2:
            self.asked_twice.set()
        raise SegmentNotFoundError(f"there is no segment {key}")


class SlowToRemove(MemoryLogStore):
    """Takes most of the time budget for each removal, on a clock of its own; the removals themselves are real.

    :ivar now: the clock, in seconds.
    :ivar removed: how many segments each call removed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.removed: list[int] = []

    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments."""
        await super().remove(keys)
        self.removed.append(len(keys))
        self.now += 0.4 * TIME_BUDGET


async def _closed_segment(database: Database) -> SegmentKey:
    uid, job_id = new_attempt_uid(), new_job_id()
    await database.write(lambda tx: insert_job(tx, NewJob(job_id, wire.JobSpec(argv=["true"]), "anonymous")))
    given = Assignment(job_id, uid, "process", "w1", "server", 60_000_000)
    assert await database.write(lambda tx: assign(tx, [given]))
    await database.write(lambda tx: close_segment(tx, Segment(uid, 0, SegmentState.CLOSED, 5, size=10)))
    return SegmentKey(uid, 0)


async def _seal_one(database: Database, store: LosesSegments) -> list[str]:
    """Return what the loop says first: by the time it comes to the second of two segments, it has judged one."""
    for _ in range(2):
        await _closed_segment(database)
    with capture_logs() as said:
        loop = asyncio.create_task(sealing_loop(store, database, "server"))
        async with asyncio.timeout(60):
            await store.asked_twice.wait()
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    return [entry["event"] for entry in said][:1]


async def test_a_segment_whose_bytes_are_gone_is_told_of(database: Database) -> None:
    """L20: its row promises what the store does not have."""
    assert await _seal_one(database, LosesSegments(lambda _key: None)) == ["log.segment_damaged"]


async def test_a_segment_that_was_dropped_meanwhile_is_no_damage(database: Database) -> None:
    """L15: a log that outgrows its budget loses segments while others are sealed."""

    def drop(key: SegmentKey) -> asyncio.Future[None]:
        keys = [(key.attempt_uid, key.first_sequence)]
        return asyncio.ensure_future(database.write(lambda tx: mark_segments(tx, keys, SegmentState.CUT)))

    assert await _seal_one(database, LosesSegments(drop)) == []


async def test_logs_are_removed_a_few_at_a_time_and_others_have_their_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L22: a transaction has a batch of jobs and no more, and a turn ends with its time budget, whatever is left."""
    store, count = SlowToRemove(), 5 * EXPIRE_BATCH
    monkeypatch.setattr("hodei_server.logs.retention.time", SimpleNamespace(monotonic=lambda: store.now))
    for _ in range(count):
        await _closed_segment(database)
    await database.write(lambda tx: tx.execute(update(jobs).values(logs_expire_at=0)))
    retention = Retention(store, database, "server", job_ttl=86400.0)
    assert (await retention.run()).logs == 3 * EXPIRE_BATCH
    assert store.removed == [EXPIRE_BATCH] * 3
    assert len(await database.read(lambda tx: expired_jobs(tx, count))) == 2 * EXPIRE_BATCH
    assert (await retention.run()).logs == 2 * EXPIRE_BATCH
    assert store.removed == [EXPIRE_BATCH] * 5


class NoAnswer:
    """An archive that does not answer."""

    async def remove_objects(self, names: Sequence[str]) -> None:
        """Fail."""
        raise StoreUnavailableError(f"{len(names)} objects stay")


async def test_an_archive_that_does_not_answer_keeps_nothing_on_the_disk(database: Database) -> None:
    """L22, L20: however much of what may go is in the archive only, the disk gets its room back."""
    store = MemoryLogStore()
    keys = [await _closed_segment(database) for _ in range(REMOVE_BATCH + 20)]
    on_disk = [key.attempt_uid for key in keys[REMOVE_BATCH + 10 :]]

    def unwanted(tx: Transaction) -> None:
        tx.execute(update(log_segments).values(state=int(SegmentState.CUT), place=int(Place.S3)))
        here = update(log_segments).where(log_segments.c.attempt_uid.in_(on_disk))
        tx.execute(here.values(place=int(Place.DISK), owner="server"))

    await database.write(unwanted)
    retention = Retention(store, database, "server", job_ttl=86400.0, archive=NoAnswer())
    await retention.run()
    left = await database.read(lambda tx: set(tx.execute(select(log_segments.c.place)).scalars()))
    assert left == {int(Place.S3)}
