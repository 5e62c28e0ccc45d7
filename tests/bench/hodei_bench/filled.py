"""A database with a long history: copies of one real job that has ended, made by SQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from hodei_bench.harness import Setup
from hodei_bench.seek import all_sealed
from hodei_server.db.schema import attempts, job_events, jobs, log_segments, metadata, workers

#: What differs from copy to copy, as SQL of its number `n`; every other column is the real job's.
_CHANGED = {
    jobs.name: {
        "number": "NULL",
        "job_id": "'j' || printf('%015d', n)",
        "request_id": "'copy' || n",
        "attempt_uid": "printf('%026d', n)",
    },
    job_events.name: {"job_id": "'j' || printf('%015d', n)"},
    attempts.name: {
        "attempt_uid": "printf('%026d', n)",
        "job_id": "'j' || printf('%015d', n)",
        "worker_id": "'w' || printf('%019d', n)",
    },
    log_segments.name: {"attempt_uid": "printf('%026d', n)"},
    workers.name: {"worker_id": "'w' || printf('%019d', n)", "session_hash": "randomblob(32)", "attempt_uid": "NULL"},
}


async def make_history(setup: Setup, name: str, count: int) -> tuple[Path, str]:
    """Make a data folder with one job that has run, and so many copies of it in the database.

    The copies have everything a job that has ended leaves behind (its moves, attempt, segment and the worker it had to
    itself) except the bytes of its log.

    :return: the folder, and the real job's id.
    """
    folder = setup.folder / name
    async with setup.server(folder) as server, server.client() as client:
        job_id = await client.submit(["/bin/echo", "hi"], name="history")
        await client.wait(job_id)
        await all_sealed(server)
        async with asyncio.timeout(60):
            while [worker async for worker in client.workers()]:
                await asyncio.sleep(0.05)
    await asyncio.to_thread(_copy, folder / "hodei.db", count)
    return folder, job_id


def _copy(file: Path, count: int) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA synchronous = OFF")
        numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
        for table, changed in _CHANGED.items():
            columns = [column.name for column in metadata.tables[table].columns]
            values = ", ".join(changed.get(column, f"real.{column}") for column in columns)
            # All rows of the one job there is; the names are the schema's own.
            select = f"SELECT {values} FROM numbers CROSS JOIN (SELECT * FROM {table}) AS real"  # noqa: S608
            database.execute(f"{numbers} INSERT INTO {table} ({', '.join(columns)}) {select}", (count,))
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
