"""The database's clock: rows are judged by one that does not jump, and what is under way is moved with one that did."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from hodei.v1 import types_pb2 as wire
from hodei_server.db import transaction as transaction_module
from hodei_server.db.attempts import Assignment, assign, attempt_started
from hodei_server.db.clock import TOLERANCE_MICROS, clock_moved, confirm_clock, settle_clock, unconfirmed_micros
from hodei_server.db.database import Database
from hodei_server.db.jobs import NewJob, expire_queued, insert_job
from hodei_server.db.schema import attempts, installation, jobs
from hodei_server.db.transaction import Transaction
from hodei_server.domain.ids import new_attempt_uid

DAY = 86_400_000_000
MINUTE = 60_000_000
BOOT = "a boot"


@pytest.fixture
async def known(database: Database) -> Database:
    """Return a database whose clock was looked at, with a job that runs, one that waits, and one that has ended."""

    def fill(tx: Transaction) -> None:
        tx.execute(insert(installation), {"installation_id": "i", "created_at": tx.now})
        for name in ("running", "waiting", "ended"):
            insert_job(tx, NewJob(name, wire.JobSpec(argv=["true"]), "anonymous"))
        tx.execute(update(jobs).where(jobs.c.job_id != "ended").values(queue_deadline=tx.now + MINUTE))
        tx.execute(update(jobs).where(jobs.c.job_id == "ended").values(ended_at=tx.now, logs_expire_at=tx.now + MINUTE))
        assert assign(tx, [Assignment("running", uid, "process", "worker", "owner", MINUTE)])
        assert settle_clock(tx, BOOT, database.offset) == 0

    uid = new_attempt_uid()
    await database.write(fill)
    assert await database.write(lambda tx: attempt_started(tx, uid, 1, MINUTE))
    return database


def times(tx: Transaction) -> dict[str, Any]:
    """Return what counts from or to a moment."""
    found = {
        f"{row.job_id} {name}": row._mapping[name]
        for row in tx.execute(select(jobs))
        for name in ("submitted_at", "queue_deadline", "logs_expire_at", "ended_at")
    }
    attempt = tx.execute(select(attempts)).one()
    return found | {"start": attempt.start_deadline, "run": attempt.run_deadline, "created": attempt.created_at}


@pytest.mark.parametrize("step", [30 * DAY, -30 * DAY])
async def test_what_is_under_way_is_moved_with_the_clock(known: Database, step: int) -> None:
    """W05, L21: what has ended keeps its times, and waits for somebody to confirm the clock."""
    before = await known.read(times)
    assert await known.write(lambda tx: settle_clock(tx, BOOT, known.offset + step)) == step
    after = await known.read(times)
    moved = {name: 0 if before[name] is None else after[name] - before[name] for name in before}
    ended = {name for name in moved if name.startswith("ended") or before[name] is None}
    assert {moved[name] for name in ended} == {0}
    assert {moved[name] for name in moved.keys() - ended} == {step}
    assert await known.write(lambda tx: clock_moved(tx, BOOT, known.offset + step)) == step
    assert await known.read(unconfirmed_micros) == step
    assert await known.write(confirm_clock) == step
    assert await known.write(lambda tx: clock_moved(tx, BOOT, known.offset + step)) == 0


async def test_a_clock_that_is_set_back_to_what_it_was_is_right(known: Database) -> None:
    """L21: nobody needs to confirm it."""
    before = await known.read(times)
    for step in (30 * DAY, 0):
        await known.write(lambda tx, step=step: settle_clock(tx, BOOT, known.offset + step))  # type: ignore[misc]
    assert await known.write(lambda tx: clock_moved(tx, BOOT, known.offset)) == 0
    assert await known.read(times) == before


async def test_a_clock_that_drifts_or_was_not_looked_at_since_the_boot_was_not_moved(known: Database) -> None:
    """L21: little by little it may go any way; of another boot nothing is known."""
    before = await known.read(times)
    offset = known.offset
    for _ in range(3):
        offset += TOLERANCE_MICROS // 2
        assert await known.write(lambda tx, offset=offset: clock_moved(tx, BOOT, offset)) == 0  # type: ignore[misc]
    assert await known.write(lambda tx: settle_clock(tx, BOOT, offset)) == 0
    assert await known.write(lambda tx: settle_clock(tx, "another boot", offset + DAY)) == 0
    assert await known.read(times) == before


async def test_a_database_whose_clock_jumps_judges_nothing(known: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """W05, L21: its time is carried on from when it was opened; that it has jumped is told."""
    real = transaction_module.database_time
    monkeypatch.setattr(transaction_module, "database_time", lambda connection: real(connection) + 30 * DAY)
    assert await known.write(lambda tx: expire_queued(tx, lambda _: 1)) == []
    offset = await known.read(lambda tx: transaction_module.clock_offset(tx.connection))
    assert await known.write(lambda tx: clock_moved(tx, BOOT, offset)) == pytest.approx(30 * DAY, abs=MINUTE)
