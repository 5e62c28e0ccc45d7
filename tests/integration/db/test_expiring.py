"""What a removal would take is told before, and is what it takes; on every database."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import select, update

from hodei.v1 import types_pb2 as wire
from hodei_logstore.contract import SegmentKey
from hodei_logstore.memory import MemoryLogStore
from hodei_logstore.testing import append_all, block
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.schema import attempts, jobs, log_segments
from hodei_server.db.segments import Place, SegmentState, segment_of
from hodei_server.domain.errors import NotFoundError
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.logs.book import LogBook, LogSettings
from hodei_server.logs.changes import ChangesByKey
from hodei_server.logs.expiring import ExpiredGroup
from hodei_server.logs.retention import Retention
from hodei_server.rpc.log_lookup import AttemptLog, LogLookup

DAY = 86_400_000_000
#: 2026-01-02, 06:00 UTC, in microseconds.
SECOND = 1_767_333_600_000_000
TTL = 30 * 86400.0


async def add_job(
    database: Database, store: MemoryLogStore, tenant: str, *, expire_at: int | None, ended_at: int | None = 0
) -> SegmentKey:
    """Make a job with a log of five bytes, which expires then."""
    uid, job_id = new_attempt_uid(), new_job_id()
    spec = wire.JobSpec(argv=["true"], tenant=tenant)
    await database.write(lambda tx: insert_job(tx, NewJob(job_id, spec, "anonymous")))
    given = Assignment(job_id, uid, "process", "w1", "server", 60_000_000)
    assert await database.write(lambda tx: assign(tx, [given]))
    theirs = update(jobs).where(jobs.c.job_id == job_id)
    await database.write(lambda tx: tx.execute(theirs.values(logs_expire_at=expire_at, ended_at=ended_at)))
    await append_all(store, SegmentKey(uid, 0), [block(0, b"five\n")])
    return SegmentKey(uid, 0)


async def change(database: Database, key: SegmentKey, **values: int) -> None:
    """Change a segment's row."""
    row = update(log_segments).where(log_segments.c.attempt_uid == key.attempt_uid)
    await database.write(lambda tx: tx.execute(row.values(**values)))


async def test_what_is_told_before_is_what_is_removed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """L21, L22: by tenant and day, however many pages it takes; what is left from before stands apart."""
    monkeypatch.setattr("hodei_server.logs.expiring.PAGE", 2)
    store = MemoryLogStore()
    for _ in range(3):
        await add_job(database, store, "one", expire_at=SECOND)
    await add_job(database, store, "one", expire_at=SECOND - DAY)
    await add_job(database, store, "two", expire_at=SECOND + DAY // 4)
    far = (await database.read(lambda tx: tx.now)) + DAY
    kept = await add_job(database, store, "two", expire_at=far, ended_at=far - 2 * DAY)
    running = await add_job(database, store, "two", expire_at=None, ended_at=None)
    cut = await add_job(database, store, "one", expire_at=far, ended_at=far - 2 * DAY)
    await change(database, cut, state=int(SegmentState.CUT))
    elsewhere = await add_job(database, store, "one", expire_at=far, ended_at=far - 2 * DAY)
    await change(database, elsewhere, state=int(SegmentState.CUT), owner="another")  # type: ignore[arg-type]
    size = await store.stored_bytes([kept])
    retention = Retention(store, database, "server", job_ttl=TTL)

    preview = await retention.preview()
    days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]
    assert preview.groups == [
        ExpiredGroup("one", days[0], 1, 1, 1, size),
        ExpiredGroup("one", days[1], 3, 3, 3, 3 * size),
        ExpiredGroup("one", None, 0, 0, 1, size),
        ExpiredGroup("two", days[1], 1, 1, 1, size),
    ]
    assert preview.jobs == 5
    assert await retention.preview() == preview

    removed = await retention.run()
    assert (removed.logs, removed.segments, removed.disk_bytes, removed.jobs) == (5, 6, 6 * size, 5)
    assert (await retention.preview()).groups == []
    assert set(await store.segments()) == {kept, running, elsewhere}


async def test_bytes_in_the_archive_are_told_apart(database: Database) -> None:
    """What is on both counts for both."""
    store = MemoryLogStore()
    for place in (Place.DISK, Place.S3, Place.DISK | Place.S3):
        key = await add_job(database, store, "one", expire_at=SECOND)
        await change(database, key, place=int(place), stored_bytes=100, state=int(SegmentState.SEALED))
        if not place & Place.DISK:
            await store.remove([key])
    retention = Retention(store, database, "server", job_ttl=TTL)
    [group] = (await retention.preview()).groups
    size = await store.stored_bytes(await store.segments())
    assert (group.jobs, group.segments, group.disk_bytes, group.s3_bytes) == (3, 3, size, 200)


async def test_a_job_outlives_its_logs_by_its_own_time(database: Database) -> None:
    """L22: its logs go, it stays, and goes once its own time has passed; an attempt of it goes with it."""
    store = MemoryLogStore()
    now = await database.read(lambda tx: tx.now)
    key = await add_job(database, store, "one", expire_at=now, ended_at=now - DAY)
    other = await add_job(database, store, "one", expire_at=now, ended_at=now - 40 * DAY)
    retention = Retention(store, database, "server", job_ttl=TTL)
    assert (await retention.preview()).jobs == 1
    removed = await retention.run()
    assert (removed.logs, removed.jobs) == (2, 1)
    left = await database.read(lambda tx: list(tx.execute(select(attempts.c.attempt_uid)).scalars()))
    assert left == [key.attempt_uid]
    assert other.attempt_uid not in left
    rows = await database.read(lambda tx: tx.execute(select(*log_segments.c)).mappings().all())
    assert [segment_of(row).state for row in rows] == [SegmentState.EXPIRED]
    past = update(jobs).values(expires_at=now)
    await database.write(lambda tx: tx.execute(past))
    assert (await retention.run()).jobs == 1
    assert not await database.read(lambda tx: tx.execute(select(attempts.c.attempt_uid)).all())


async def test_a_reader_of_a_job_that_is_removed_meanwhile_is_told_that_it_is_not_there(database: Database) -> None:
    """What it has found before is looked up again at the log's end, and by then all may be gone."""
    store = MemoryLogStore()
    lookup = LogLookup(database, LogBook(store, database, "server", LogSettings(1 << 20)), ChangesByKey())
    with pytest.raises(NotFoundError, match="no attempt gone"):
        await lookup.look(AttemptLog("job", "gone", 1))
