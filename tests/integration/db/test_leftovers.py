"""Logs on the disk that a restored database does not know: they go after a grace, and nothing else does."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from hodei.v1 import types_pb2 as wire
from hodei_logstore.contract import SegmentKey
from hodei_logstore.file import FileLogStore
from hodei_logstore.testing import append_all, block
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.schema import installation
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.loops.leftovers import Leftovers

GRACE = 100.0


class Disk:
    """A disk with logs, and a clock that a test sets."""

    def __init__(self, store: FileLogStore) -> None:
        self.store = store
        self.now = 1000.0

    async def log(self, uid: str, count: int = 1, *, sealed: bool = True) -> list[SegmentKey]:
        """Write a log of so many segments; return their keys."""
        keys = [SegmentKey(uid, number) for number in range(count)]
        for key in keys:
            await append_all(self.store, key, [block(key.first_sequence, b"x")])
            if sealed:
                await self.store.seal(key)
        return keys

    async def there(self) -> set[SegmentKey]:
        """Return what is on it."""
        return set(await self.store.segments())


@pytest.fixture
async def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """Return a disk whose clock is that of what is tested."""
    async with FileLogStore(tmp_path / "logs", durability="process", small_bytes=0) as store:
        made = Disk(store)
        monkeypatch.setattr("hodei_server.loops.leftovers.time", types.SimpleNamespace(monotonic=lambda: made.now))
        monkeypatch.setattr("hodei_server.loops.leftovers.REST", 0)
        yield made


@pytest.fixture
async def leftovers(disk: Disk, database: Database) -> Leftovers:
    """Return what looks for them, in the database of an installation."""
    row = {"installation_id": "here", "created_at": 0, "generation": ""}
    await database.write(lambda tx: tx.execute(insert(installation), row))
    return Leftovers(disk.store, database, "here", GRACE)


@pytest.mark.parametrize("page", [1, 2, 1000])
async def test_logs_that_no_attempt_has_go_after_a_grace(
    disk: Disk, leftovers: Leftovers, database: Database, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """L20, L21: all their segments, in every form; no younger ones, and none of attempts, which may be running."""
    monkeypatch.setattr("hodei_server.loops.leftovers.PAGE", page)
    job_id, running = new_job_id(), new_attempt_uid()
    await database.write(lambda tx: insert_job(tx, NewJob(job_id, wire.JobSpec(argv=["true"]), "anonymous")))
    given = Assignment(job_id, running, "process", "w1", "server", 60_000_000)
    assert await database.write(lambda tx: assign(tx, [given]))
    kept = await disk.log(running, 3, sealed=False)
    await disk.log(new_attempt_uid(), 3)
    await disk.log(new_attempt_uid(), sealed=False)
    assert await leftovers.sweep() == 0
    disk.now += GRACE - 1
    young = await disk.log(new_attempt_uid(), 2)
    assert await leftovers.sweep() == 0
    disk.now += 1
    assert await leftovers.sweep() == 4
    assert await disk.there() == {*kept, *young}
    disk.now += GRACE
    assert await leftovers.sweep() == 2
    assert await disk.there() == set(kept)


async def test_nothing_goes_while_the_database_is_another_installations(
    disk: Disk, leftovers: Leftovers, database: Database
) -> None:
    """L20: whoever put another database under a server finds everything where it was, and has the whole grace again."""
    keys = await disk.log(new_attempt_uid())
    for installation_id in ("here", "another", "another", "here"):
        change = update(installation).values(installation_id=installation_id)
        await database.write(lambda tx, change=change: tx.execute(change))  # type: ignore[misc]
        assert await leftovers.sweep() == 0
        disk.now += GRACE - 1 if installation_id == "here" else GRACE
    assert await leftovers.sweep() == 0
    assert await disk.there() == set(keys)
    disk.now += 1
    assert await leftovers.sweep() == 1
    assert not await disk.there()
