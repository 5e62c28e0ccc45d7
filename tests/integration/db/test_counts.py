"""What metrics ask of the database, on every engine."""

from __future__ import annotations

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database
from hodei_server.db.job_queries import oldest_queued, unfinished_counts
from hodei_server.db.jobs import CancelWish, NewJob, insert_job, request_cancel
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, counts_by_state, insert_workers
from hodei_server.domain.ids import new_job_id
from hodei_server.domain.states import JobState
from hodei_server.domain.workers import WorkerState
from hodei_server.instruments import JOB_MOVES


def moves(state: str, cause: str) -> float:
    """Return how many moves were counted."""
    return next(
        sample.value
        for sample in next(iter(JOB_MOVES.labels(state, cause).collect())).samples
        if sample.name.endswith("_total")
    )


async def test_jobs_and_workers_are_counted_by_state(database: Database) -> None:
    """Those that have ended are not; the oldest waiting job's age is that of the first that waits."""
    assert await database.read(oldest_queued) == 0
    jobs = [new_job_id() for _ in range(3)]
    for job in jobs:
        await database.write(lambda tx, job=job: insert_job(tx, NewJob(job, wire.JobSpec(argv=["true"]), "anonymous")))  # type: ignore[misc]
    await database.write(lambda tx: assign(tx, [Assignment(jobs[0], "uid", "process", "w1", "server", 60_000_000)]))
    await database.write(lambda tx: insert_workers(tx, [NewWorker("w1", "process", "", b"", "", 1, None)]))
    assert await database.read(lambda tx: oldest_queued(tx) > 0)
    await database.write(lambda tx: request_cancel(tx, CancelWish(jobs[1]), lambda _: 1))
    counts = await database.read(unfinished_counts)
    assert counts == {JobState.QUEUED: 1, JobState.STARTING: 1, JobState.RUNNING: 0, JobState.FINISHING: 0}
    assert await database.read(counts_by_state) == {("process", WorkerState.STARTING): 1}


async def test_a_move_is_counted_once_it_is_committed(database: Database) -> None:
    """And not where its transaction was rolled back."""
    before = moves("queued", "none")
    new = NewJob(new_job_id(), wire.JobSpec(argv=["true"]), "anonymous")

    def fails(tx: Transaction) -> None:
        insert_job(tx, new)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await database.write(fails)
    assert moves("queued", "none") == before
    await database.write(lambda tx: insert_job(tx, new))
    assert moves("queued", "none") == before + 1
