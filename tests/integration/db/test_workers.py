"""What becomes of workers' rows."""

from __future__ import annotations

from sqlalchemy import select, update

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database, Transaction
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.retention import remove_jobs
from hodei_server.db.schema import jobs, log_segments, workers
from hodei_server.db.segments import Place
from hodei_server.db.workers import NewWorker, begin_removal, confirm_removal, insert_worker, said_hello, take_worker
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.domain.states import JobState


def idle_worker(tx: Transaction, worker_id: str = "w1") -> None:
    """Write down a worker that waits."""
    insert_worker(tx, NewWorker(worker_id, "process", "", b"", "", 5, None))
    said_hello(tx, worker_id)


async def test_a_worker_that_was_given_a_job_meanwhile_is_not_removed_as_idle(database: Database) -> None:
    """W20: whoever found it idle looked before; its job would be killed, and nobody would be told."""
    await database.write(idle_worker)
    assert await database.write(lambda tx: take_worker(tx, "w1", "uid", "default"))
    assert await database.write(lambda tx: begin_removal(tx, "w1", "idle for too long", idle=True)) is None
    assert await database.read(lambda tx: tx.execute(select(workers.c.removal_reason)).scalar_one()) is None
    assert await database.write(lambda tx: begin_removal(tx, "w1", "lost")) is not None


async def test_workers_go_with_the_jobs_they_ran(database: Database) -> None:
    """L22: a million jobs leave no million workers; one that is there still stays."""
    for number, removed in enumerate([True, False]):
        job, worker = new_job_id(), f"w{number}"
        spec = wire.JobSpec(argv=["true"])
        await database.write(lambda tx, job=job, spec=spec: insert_job(tx, NewJob(job, spec, "anonymous")))  # type: ignore[misc]
        given = Assignment(job, new_attempt_uid(), "process", worker, "server", 60_000_000)
        await database.write(lambda tx, given=given: assign(tx, given))  # type: ignore[misc]
        await database.write(lambda tx, worker=worker: idle_worker(tx, worker))  # type: ignore[misc]
        if removed:
            await database.write(lambda tx, worker=worker: begin_removal(tx, worker, "done"))  # type: ignore[misc]
            await database.write(lambda tx, worker=worker: confirm_removal(tx, worker))  # type: ignore[misc]

    def ended(tx: Transaction) -> None:
        tx.execute(update(jobs).values(state=int(JobState.SUCCEEDED), ended_at=1, expires_at=2, logs_expire_at=None))
        tx.execute(update(log_segments).values(place=int(Place.NOWHERE)))

    await database.write(ended)
    assert await database.write(lambda tx: remove_jobs(tx, 10)) == 2
    assert await database.read(lambda tx: list(tx.execute(select(workers.c.worker_id)).scalars())) == ["w1"]
