"""A database with a long history: copies of one real job that has ended, made by SQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, create_engine, text

from hodei_bench.archive import archive_all
from hodei_bench.bucket import PlainBucket
from hodei_bench.databases import all_sealed
from hodei_bench.harness import Setup
from hodei_server.db.schema import attempts, job_events, jobs, log_segments, metadata, workers

#: How each engine writes the number `n` of a copy with so many digits, and makes 32 bytes of it.
_DIALECTS = {
    "sqlite": ("printf('%0{0}d', n)", "randomblob(32)"),
    "postgresql": ("lpad(n::text, {0}, '0')", "sha256(n::text::bytea)"),
}


def _changed(dialect: str) -> dict[str, dict[str, str]]:
    """Return what differs from copy to copy, as SQL of its number `n`; every other column is the real job's."""
    digits, hashed = _DIALECTS[dialect]
    job_id, attempt_uid, worker_id = f"'j' || {digits.format(15)}", digits.format(26), f"'w' || {digits.format(19)}"
    return {
        jobs.name: {"job_id": job_id, "request_id": "'copy' || n", "attempt_uid": attempt_uid},
        job_events.name: {"job_id": job_id},
        attempts.name: {
            "attempt_uid": attempt_uid,
            "job_id": job_id,
            "job_number": f"(SELECT jobs.number FROM jobs WHERE jobs.job_id = {job_id})",  # noqa: S608 - ours, as all that follows
            "worker_id": worker_id,
        },
        log_segments.name: {"attempt_uid": attempt_uid},
        workers.name: {"worker_id": worker_id, "session_hash": hashed, "attempt_uid": "NULL"},
    }


async def make_history(
    setup: Setup, name: str, count: int, *, database_url: str = "", bucket: PlainBucket | None = None
) -> tuple[Path, str]:
    """Make a data folder with one job that has run, and so many copies of it in the database.

    The copies have everything a job that has ended leaves behind (its moves, attempt, segment and the worker it had to
    itself) except the bytes of its log.

    :param database_url: of a database that is empty; the folder's own without.
    :param bucket: where the real job's log goes, and where the copies' rows say that theirs are.
    :return: the folder, and the real job's id.
    """
    folder = setup.folder / name
    settings = {"database_url": database_url} if database_url else {}
    async with setup.server(folder, **settings) as server, server.client() as client:
        job_id = await client.submit(["/bin/echo", "hi"], name="history", labels={"made": "by-hand"})
        await client.wait(job_id)
        await all_sealed(server)
        async with asyncio.timeout(60):
            while [worker async for worker in client.workers()]:
                await asyncio.sleep(0.05)
    if bucket is not None:
        await archive_all(folder, bucket)
    url = database_url or f"sqlite:///{folder / 'hodei.db'}"
    await asyncio.to_thread(_copy, url.replace("postgresql://", "postgresql+psycopg://"), count)
    return folder, job_id


def _copy(url: str, count: int) -> None:
    engine = create_engine(url)
    with engine.connect() as database:
        if engine.dialect.name == "sqlite":
            # Nobody else reads it, and what is half made is thrown away.
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                "locking_mode = EXCLUSIVE",
                "cache_size = -1000000",
            ):
                database.exec_driver_sql(f"PRAGMA {pragma}")
        copy_jobs(database, count)
        if engine.dialect.name == "postgresql":
            # As its own autovacuum would have done, had the jobs come one by one.
            database.exec_driver_sql("ANALYZE")
        database.commit()
    engine.dispose()


def copy_jobs(database: Connection, count: int) -> None:
    """Copy the one job there is, and all it has left, so many times."""
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
    for table, changed in _changed(database.dialect.name).items():
        # The engine numbers jobs by itself.
        columns = [
            column.name for column in metadata.tables[table].columns if (table, column.name) != ("jobs", "number")
        ]
        values = ", ".join(changed.get(column, f"original.{column}") for column in columns)
        # The names are the schema's own.
        select = f"SELECT {values} FROM numbers CROSS JOIN (SELECT * FROM {table}) AS original"  # noqa: S608
        statement = f"{numbers} INSERT INTO {table} ({', '.join(columns)}) {select}"
        database.execute(text(statement), {"count": count})
    labelled = "INSERT INTO job_labels SELECT key, value, jobs.number FROM job_labels CROSS JOIN jobs"
    database.execute(text(labelled + " WHERE jobs.number NOT IN (SELECT job_number FROM job_labels)"))  # noqa: S608 - the same
