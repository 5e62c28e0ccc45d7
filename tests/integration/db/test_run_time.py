"""From when to when an attempt's process has run, as it is recorded."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment, assign, attempt_started
from hodei_server.db.database import Database
from hodei_server.db.job_queries import attempts_of
from hodei_server.db.jobs import NewJob, insert_job, job_row
from hodei_server.db.schema import attempts
from hodei_server.db.transaction import Transaction


@pytest.mark.parametrize(("ran", "told"), [(0, 0), (7, 7), (-7, 0), (1 << 54, 1000)])
async def test_a_process_that_has_run_for_a_while_began_before_it_is_written_down(
    database: Database, ran: int, told: int
) -> None:
    """Its worker says for how long; it is not before its attempt was made, and not later than it is known."""

    def start(tx: Transaction) -> int:
        insert_job(tx, NewJob("job", wire.JobSpec(argv=["true"]), "anonymous"))
        assign(tx, [Assignment("job", "attempt", "process", "w1", "server", 60_000_000)])
        tx.flush()
        tx.execute(update(attempts).values(created_at=tx.now - 1000))
        assert attempt_started(tx, "attempt", 1, None, ran_micros=ran) is not None
        assert attempt_started(tx, "attempt", 1, None, ran_micros=ran + 1) is None
        return tx.now

    now = await database.write(start)
    job = await database.read(lambda tx: job_row(tx, "job"))
    (attempt,) = await database.read(lambda tx: attempts_of(tx, "job"))
    assert job is not None
    assert attempt["started_at"] == job["started_at"] == now - told
