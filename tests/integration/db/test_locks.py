"""Several that write one SQLite database at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from sqlalchemy import select, text

from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import jobs
from hodei_server.db.schema_version import upgrade
from hodei_server.db.transaction import Transaction

#: Seconds for which somebody else keeps the database locked; more than SQLite waits for by itself.
LOCKED = 6.0


async def test_a_write_waits_for_whoever_has_the_database_locked(tmp_path: Path) -> None:
    """W29: a backup tool, or a person with a shell, delays a write; it does not fail it."""
    engine = open_engine(f"sqlite:///{tmp_path / 'hodei.db'}")
    upgrade(engine)
    locked = threading.Event()

    def lock() -> None:
        with sqlite3.connect(tmp_path / "hodei.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            locked.set()
            threading.Event().wait(LOCKED)
            other.execute("COMMIT")

    async with Database(engine) as database:
        locking = asyncio.create_task(asyncio.to_thread(lock))
        await asyncio.to_thread(locked.wait)
        # Readers are not held up: they see what was committed before.
        assert await database.read(lambda tx: tx.execute(select(jobs.c.job_id)).all()) == []
        assert await database.write(lambda tx: tx.connection.scalar(text("SELECT 7"))) == 7
        await locking


async def test_writes_and_reads_at_once_never_find_the_database_locked(tmp_path: Path) -> None:
    """W29: a reader that comes to write would be told that it is locked: writers say so at the beginning."""
    engines = [open_engine(f"sqlite:///{tmp_path / 'hodei.db'}") for _ in range(2)]
    upgrade(engines[0])

    def count_up(tx: Transaction) -> None:
        # It reads before it writes: what fails where the lock is not taken at the beginning.
        before = tx.connection.scalar(text("SELECT coalesce(max(changed_at), 0) FROM providers")) or 0
        tx.connection.execute(
            text("INSERT INTO providers VALUES (:name, 1, :at)"), {"name": f"p{before + 1}", "at": before + 1}
        )

    async with Database(engines[0]) as one, Database(engines[1]) as other:
        reads = [one.read(lambda tx: tx.execute(text("SELECT count(*) FROM providers")).all()) for _ in range(200)]
        await asyncio.gather(*(database.write(count_up) for _ in range(200) for database in (one, other)), *reads)
        assert await one.read(lambda tx: tx.connection.scalar(text("SELECT count(*) FROM providers"))) == 400
