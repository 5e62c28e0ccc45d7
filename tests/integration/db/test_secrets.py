"""Values of secrets in real databases: encrypted, and gone with the move that ends their job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import delete, insert, select, text, update

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.db.attempts import Assignment, LogEnd, assign, finish, keep_result
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.jobs import CancelWish, NewJob, expire_queued, insert_job, request_cancel
from hodei_server.db.retention import remove_jobs
from hodei_server.db.schema import job_secrets, jobs
from hodei_server.db.schema_version import _config, upgrade
from hodei_server.db.secrets import erase_ended, kept_secrets, kept_under_others
from hodei_server.db.transaction import Transaction
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.domain.secrets import SecretError
from hodei_server.secrets.keys import SecretKeys

KEYS = SecretKeys([b"k" * 32])
VALUES = b"the values of a job's secrets, encoded"


async def submit(database: Database, **fields: object) -> str:
    """Store a job with secrets."""
    job_id = new_job_id()
    spec = wire.JobSpec(argv=["true"], **fields)  # type: ignore[arg-type]  # a test's own fields
    sealed = KEYS.seal(job_id, VALUES, spec.SerializeToString())
    await database.write(lambda tx: insert_job(tx, NewJob(job_id, spec, "anonymous", sealed=sealed)))
    return job_id


async def kept(database: Database, job_id: str) -> bool:
    """Return whether values of a job are kept."""
    return await database.read(lambda tx: kept_secrets(tx, job_id)) is not None


async def cancelled(database: Database, job_id: str) -> None:
    """End a job that waits, by a wish."""
    await database.write(lambda tx: request_cancel(tx, CancelWish(job_id), lambda _: 1))


async def too_late(database: Database, job_id: str) -> None:
    """End a job that waits, by its clock."""
    await database.write(lambda tx: tx.execute(update(jobs).where(jobs.c.job_id == job_id).values(queue_deadline=1)))
    await database.write(lambda tx: expire_queued(tx, lambda _: 1))


async def ended(database: Database, job_id: str) -> None:
    """End a job by its process, after an attempt that was retried; its secrets are there until then."""
    for exit_code in (1, 0):
        uid = new_attempt_uid()
        given = Assignment(job_id, uid, "process", "w1", "server", 60_000_000)
        await database.write(lambda tx, given=given: assign(tx, [given]))  # type: ignore[misc]
        assert await kept(database, job_id)
        result = worker_wire.AttemptResult(attempt_uid=uid, epoch=1, cause=wire.CAUSE_EXIT_CODE, exit_code=exit_code)
        end = LogEnd(next_sequence=0, complete=True, open_segment=None)

        def write(
            tx: Transaction, result: worker_wire.AttemptResult = result, uid: str = uid, end: LogEnd = end
        ) -> None:
            keep_result(tx, result)
            finish(tx, uid, end, 1)

        await database.write(write)


@pytest.mark.parametrize("end", [cancelled, too_late, ended])
async def test_the_move_that_ends_a_job_erases_the_values_of_its_secrets(
    database: Database, end: Callable[[Database, str], object]
) -> None:
    """L23: however a job ends, and not before; other jobs keep theirs."""
    job, other = [await submit(database, retry=wire.RetryPolicy(max_attempts=2)) for _ in range(2)]
    await end(database, job)  # type: ignore[misc]  # one of the functions above
    row = await database.read(lambda tx: tx.execute(select(jobs).where(jobs.c.job_id == job)).mappings().one())
    assert row["ended_at"] is not None
    assert not await kept(database, job)
    assert await kept(database, other)


async def test_values_go_with_the_whole_transaction_or_not_at_all(database: Database) -> None:
    """A move that is rolled back erases nothing."""
    job = await submit(database)

    def fail(tx: Transaction) -> None:
        request_cancel(tx, CancelWish(job), lambda _: 1)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await database.write(fail)
    assert await kept(database, job)


async def test_what_an_end_has_left_is_found_by_retention(database: Database) -> None:
    """A row of an ended job is a leftover, whoever left it; one of a job that is removed goes with it."""
    job, waiting = [await submit(database) for _ in range(2)]
    await database.write(lambda tx: tx.execute(update(jobs).where(jobs.c.job_id == job).values(ended_at=1)))
    assert await database.write(lambda tx: erase_ended(tx, 10)) == 1
    assert not await kept(database, job)
    assert await kept(database, waiting)
    await database.write(
        lambda tx: tx.execute(update(jobs).where(jobs.c.job_id == waiting).values(ended_at=1, expires_at=1))
    )
    assert await database.write(lambda tx: remove_jobs(tx, 10)) == 1
    assert not await kept(database, waiting)


async def test_values_are_bound_to_their_job_and_to_a_key_that_is_there(database: Database) -> None:
    """L23: a row that was changed, moved to another job or kept under another key is no value."""
    job, other = [await submit(database) for _ in range(2)]
    row, others = await database.read(lambda tx: (kept_secrets(tx, job), kept_secrets(tx, other)))
    assert row is not None
    assert others is not None
    assert VALUES not in row["data"]
    assert row["data"] != others["data"]
    assert KEYS.open(job, row["key_id"], row["data"]) == VALUES
    assert SecretKeys([b"n" * 32, b"k" * 32]).open(job, row["key_id"], row["data"]) == VALUES
    changed = row["data"][:-1] + bytes([row["data"][-1] ^ 1])
    for job_id, data in ((other, row["data"]), (job, changed), (job, b"")):
        with pytest.raises(SecretError, match="damaged"):
            KEYS.open(job_id, row["key_id"], data)
    with pytest.raises(SecretError, match="HODEI_SECRETS_KEY_FILE"):
        SecretKeys([b"n" * 32]).open(job, row["key_id"], row["data"])
    assert await database.read(lambda tx: kept_under_others(tx, KEYS.key_ids)) == 0
    assert await database.read(lambda tx: kept_under_others(tx, [b"another."])) == 2
    assert await database.read(lambda tx: kept_under_others(tx, [])) == 2
    await database.write(lambda tx: tx.execute(update(jobs).where(jobs.c.job_id == job).values(ended_at=1)))
    assert await database.read(lambda tx: kept_under_others(tx, [])) == 1  # what an ended job has left needs no key


def test_a_downgrade_loses_no_values(database_url: str) -> None:
    """The way back is refused as long as values are kept, and nothing is changed by that."""
    engine = open_engine(database_url)
    upgrade(engine)
    job_id = new_job_id()
    sealed = KEYS.seal(job_id, VALUES, b"")
    with engine.connect() as connection:
        tx = Transaction(connection.execution_options(hodei_writer=True))
        insert_job(tx, NewJob(job_id, wire.JobSpec(argv=["true"]), "anonymous", sealed=sealed))
        tx.flush()
        connection.commit()
    with pytest.raises(RuntimeError, match="secrets of 1 jobs are kept"):
        command.downgrade(_config(engine), "0006")
    with engine.connect() as connection:
        assert kept_secrets(Transaction(connection), job_id) is not None
    engine.dispose()


async def test_sqlite_overwrites_what_it_erases(database: Database, engine_name: str, tmp_path: Path) -> None:
    """Not even what was encrypted stays in the file, once the log of its pages has been written back."""
    if engine_name != "sqlite":
        pytest.skip("only SQLite's file is looked into")
    erased, removed = os.urandom(30_000), os.urandom(30_000)
    job, other = [await submit(database) for _ in range(2)]

    def put(tx: Transaction) -> None:
        tx.execute(delete(job_secrets))
        for job_id, data in ((job, erased), (other, removed)):
            tx.execute(insert(job_secrets).values(job_id=job_id, key_id=b"k" * 8, data=data))

    await database.write(put)

    def on_disk() -> bytes:
        with database.engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        return (tmp_path / "test.db").read_bytes()

    assert erased[20_000:20_040] in on_disk()
    await cancelled(database, job)
    assert erased[20_000:20_040] not in on_disk()
    assert removed[20_000:20_040] in on_disk()
