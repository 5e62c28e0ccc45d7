"""Statements of the hot path on SQLite: handed to the driver as they are, with SQLAlchemy's results and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from hodei.v1 import job_pb2 as job_wire
from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.db import transaction as transaction_module
from hodei_server.db.attempts import Assignment, LogEnd, assign, attempt_started, finish, keep_result, release_worker
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.decisions import MOST_WAITING, NewDecision, insert_decisions
from hodei_server.db.engine import open_engine
from hodei_server.db.jobs import NewJob, insert_job, submitted_before
from hodei_server.db.prepared import PreparedStatements, prepared
from hodei_server.db.schema import attempts, decisions, job_events, jobs, log_segments, metadata, workers
from hodei_server.db.schema_version import upgrade
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, insert_workers, said_hello, take_workers


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an empty SQLite database."""
    made = open_engine(f"sqlite:///{tmp_path}/test.db")
    upgrade(made)
    yield made
    made.dispose()


def run_a_job(tx: Transaction) -> list[Any]:
    """Move a job with every column that may be empty or bytes from its submission to its end; return the answers."""
    spec = wire.JobSpec(argv=["true"], name="näme", labels={"a": "b"})
    answers: list[Any] = [insert_job(tx, NewJob("job", spec, "anonymous", "request"))]
    insert_workers(tx, [NewWorker("w1", "process", "", b"", "", 0, None)])
    said_hello(tx, "w1")
    answers.append(submitted_before(tx, NewJob("again", spec, "anonymous", "request")))
    answers.append(submitted_before(tx, NewJob("again", wire.JobSpec(argv=["false"]), "anonymous", "request")))
    answers.append(submitted_before(tx, NewJob("again", spec, "anonymous", "never")))
    for number in range(MOST_WAITING + 2):
        tx.flush()
        decision = job_wire.Decision(job_id="job", reason=f"full {number}").SerializeToString()
        insert_decisions(tx, [NewDecision("job", "default", None, decision)])
    answers.append(take_workers(tx, [("w1", "attempt", "default")]))
    answers.append(take_workers(tx, [("w1", "other", "default")]))
    answers += assign(tx, [Assignment("job", "attempt", "process", "w1", "server", 60_000_000)]).values()
    answers.append(assign(tx, [Assignment("job", "again", "process", "w1", "server", 60_000_000)]))
    tx.flush()
    answers.append(attempt_started(tx, "attempt", 1, None))
    answers.append(attempt_started(tx, "attempt", 1, None))
    result = worker_wire.AttemptResult(attempt_uid="attempt", epoch=1, cause=wire.CAUSE_EXIT_CODE, exit_code=0)
    answers.append(keep_result(tx, result))
    segment = Segment("attempt", 0, SegmentState.CLOSED, 3, 10, 2, 1 << 200, 5, 6)
    answers.append(finish(tx, "attempt", LogEnd(next_sequence=3, complete=True, open_segment=segment), 1))
    answers.append(release_worker(tx, "w1", "attempt"))
    answers.append(release_worker(tx, "w1", "attempt"))
    tx.flush()
    return [dict(answer) if hasattr(answer, "keys") else answer for answer in answers]


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that is stored."""
    tables = (jobs, job_events, attempts, decisions, log_segments, workers)
    assert set(tables) <= set(metadata.sorted_tables)
    return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in tables}


def test_both_ways_store_and_answer_the_same(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement of a job's way, whether it changes something or finds nothing to change."""
    monkeypatch.setattr(transaction_module, "database_time", lambda _connection: 1_000_000)
    outcomes = []
    for directly in (False, True):
        with engine.connect() as connection:
            writer = connection.execution_options(hodei_writer=True)
            writer.begin()
            tx = Transaction(writer, PreparedStatements(writer) if directly else None)
            outcomes.append((run_a_job(tx), contents(writer)))
            writer.rollback()
    assert outcomes[0] == outcomes[1]


async def test_a_failed_statement_is_told_as_always_and_stores_nothing(engine: Engine) -> None:
    """A broken constraint is an error of the write; one write's failure leaves the others of its batch alone."""
    async with Database(engine) as database:
        await database.write(lambda tx: insert_job(tx, NewJob("one", wire.JobSpec(argv=["true"]), "anonymous")))
        with pytest.raises(IntegrityError):
            await database.write(lambda tx: insert_job(tx, NewJob("one", wire.JobSpec(argv=["true"]), "anonymous")))
        assert await database.read(lambda tx: len(tx.execute(select(jobs.c.job_id)).all())) == 1


async def test_a_database_that_can_not_be_written_is_unavailable(engine: Engine) -> None:
    """C03: what the driver says of its disk is no error of the caller's, and it works again afterwards."""
    async with Database(engine) as database:
        # As small as it is: there is no room for another page.
        pages = await database.read(lambda tx: tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one())

        def limit(tx: Transaction, most: int) -> None:
            tx.connection.exec_driver_sql(f"PRAGMA max_page_count={most}")

        await database.write(lambda tx: limit(tx, pages))
        large = wire.JobSpec(argv=["x" * 100_000])
        with pytest.raises(DatabaseUnavailableError, match="full"):
            await database.write(lambda tx: insert_job(tx, NewJob("large", large, "anonymous")))
        await database.write(lambda tx: limit(tx, 1 << 30))
        await database.write(lambda tx: insert_job(tx, NewJob("large", large, "anonymous")))


def test_a_parameter_that_is_missing_is_no_null(engine: Engine) -> None:
    """What the statement itself names stays; what its caller has to name must be there."""
    statement = prepared(update(jobs).where(jobs.c.job_id == bindparam("id")).values(reason="fixed", outcome=None))
    with engine.connect() as connection:
        writer = connection.execution_options(hodei_writer=True)
        writer.begin()
        insert_job(Transaction(writer), NewJob("one", wire.JobSpec(argv=["true"]), "anonymous"))
        statements = PreparedStatements(writer)
        with pytest.raises(KeyError):
            statements.run(statement, {})
        assert statements.run(insert(jobs), {}) is None  # not prepared
        statements.run(statement, {"id": "one"})
        assert writer.execute(select(jobs.c.reason)).scalar_one() == "fixed"
