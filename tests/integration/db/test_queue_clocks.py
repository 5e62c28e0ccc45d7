"""The clocks of waiting jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import Engine, update

from hodei.v1 import types_pb2 as wire
from hodei_faults.database_work import measured_on, slack_of
from hodei_server.db.job_queries import next_wake
from hodei_server.db.jobs import NewJob, expire_queued, insert_job
from hodei_server.db.schema import jobs
from hodei_server.db.schema_version import upgrade
from hodei_server.db.transaction import Transaction

QUESTIONS: Mapping[str, Callable[[Transaction], object]] = {
    "queue timeouts": lambda tx: expire_queued(tx, lambda _: 1),
    "back-offs": next_wake,
}


def test_the_clocks_of_the_queue_cost_no_more_when_more_jobs_wait(engines: tuple[Engine, Engine]) -> None:
    """They are looked at every second, and by the writer: fifty times the queue, at most half as much work again."""
    costs: list[dict[str, int]] = []
    for engine, count in zip(engines, (300, 15_000), strict=True):
        upgrade(engine)
        with engine.connect() as connection:
            database = connection.execution_options(hodei_writer=True)
            tx = Transaction(database)
            for number in range(count):
                spec = wire.JobSpec(argv=["true"], queue_timeout=Duration(seconds=3600))
                insert_job(tx, NewJob(f"waits-{number}", spec, "anonymous"))
            tx.flush()
            database.execute(update(jobs).where(jobs.c.job_id == "waits-1").values(not_before=tx.now + 3_600_000_000))
            database.commit()
        measured = measured_on(engine)
        costs.append({name: measured(question) for name, question in QUESTIONS.items()})
    few, many = costs
    assert all(many[name] <= 1.5 * few[name] + slack_of(engines[0]) for name in QUESTIONS), (few, many)
