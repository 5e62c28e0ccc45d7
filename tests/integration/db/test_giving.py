"""How what one look gives out is written down, on each engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from sqlalchemy import event, select

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment, release_worker
from hodei_server.db.database import Database
from hodei_server.db.decisions import NewDecision
from hodei_server.db.jobs import CancelWish, NewJob, insert_job, request_cancel
from hodei_server.db.schema import attempts, decisions, job_events, jobs, log_segments, workers
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, drain_worker, insert_workers, said_hello
from hodei_server.domain.states import JobState
from hodei_server.domain.workers import WorkerState
from hodei_server.work.giving import Chosen, give


def chosen(job_id: str, *, launch: bool) -> Chosen:
    """Choose a worker for a job."""
    uid, worker = f"a-{job_id}", f"worker-{job_id}"
    return Chosen(
        Assignment(job_id, uid, "process", worker, "server", 60_000_000),
        "default",
        NewDecision(job_id, "default", uid, b""),
        NewWorker(worker, "process", "default", b"", "", 1, uid) if launch else None,
        0.0,
    )


def submitted(tx: Transaction, names: list[str]) -> None:
    """Submit jobs."""
    for name in names:
        insert_job(tx, NewJob(name, wire.JobSpec(argv=["true"]), "anonymous"))


async def test_what_a_look_gives_out_is_as_many_statements_for_many_jobs_as_for_one(
    database: Database, engine_name: str
) -> None:
    """Each is a way to PostgreSQL and back while nothing else is written; to SQLite it is a call."""
    if engine_name == "sqlite":
        pytest.skip("there is a statement for each job")
    names = [f"job-{number}" for number in range(40)]
    counts: list[int] = []

    def count(*_: Any) -> None:
        counts[-1] += 1

    def idle(tx: Transaction) -> None:
        submitted(tx, names)
        insert_workers(tx, [NewWorker(f"worker-{name}", "process", "", b"", "", 0, None) for name in names[::2]])
        for name in names[::2]:
            said_hello(tx, f"worker-{name}")

    await database.write(idle)
    event.listen(database.engine, "before_cursor_execute", count)
    several = [chosen(name, launch=number % 2 == 1) for number, name in enumerate(names)]
    for look in (several[:2], several[2:]):
        counts.append(0)
        given = await database.write(lambda tx, look=look: give(tx, look))  # type: ignore[misc]
        assert len(given) == len(look)
    assert counts[0] == counts[1]
    event.remove(database.engine, "before_cursor_execute", count)
    rows = await database.read(lambda tx: tx.execute(select(jobs.c.job_id, jobs.c.state, jobs.c.attempt_uid)).all())
    assert sorted(rows) == sorted((name, int(JobState.STARTING), f"a-{name}") for name in names)
    held = await database.read(lambda tx: tx.execute(select(workers.c.worker_id, workers.c.attempt_uid)).all())
    assert sorted(held) == sorted((f"worker-{name}", f"a-{name}") for name in names)


async def test_jobs_and_workers_that_were_taken_meanwhile_are_left_out_and_the_others_are_given(
    database: Database, engine_name: str
) -> None:
    """W14, W16: whoever looked before has seen them wait; no worker is launched or held for what does not begin."""
    names = ["to a new one", "to an idle one", "cancelled", "cancelled beside an idle one", "its worker drains"]
    waiting = [names[1], names[3], names[4]]

    def prepare(tx: Transaction) -> None:
        submitted(tx, names)
        insert_workers(tx, [NewWorker(f"worker-{name}", "process", "", b"", "", 0, None) for name in waiting])
        for name in waiting:
            said_hello(tx, f"worker-{name}")

    def meanwhile(tx: Transaction) -> None:
        for name in names[2:4]:
            request_cancel(tx, CancelWish(name), lambda _tenant: 1)
        drain_worker(tx, f"worker-{names[4]}")
        tx.flush()

    def look(tx: Transaction) -> list[str]:
        if engine_name == "sqlite":
            meanwhile(tx)  # nobody else could write
        else:
            tx.execute(select(jobs.c.job_id)).all()  # its transaction has begun
            with database.engine.begin() as other:
                meanwhile(Transaction(other))
        return [each.job["job_id"] for each in give(tx, [chosen(name, launch=name not in waiting) for name in names])]

    await database.write(prepare)
    assert sorted(await database.write(look)) == sorted(names[:2])

    def found(tx: Transaction) -> dict[str, list[Any]]:
        return {
            "jobs": [row.job_id for row in tx.execute(select(jobs).where(jobs.c.state == int(JobState.STARTING)))],
            "events": [
                row.job_id for row in tx.execute(select(job_events).where(job_events.c.state == int(JobState.STARTING)))
            ],
            "attempts": [row.job_id for row in tx.execute(select(attempts))],
            "decisions": [row.job_id for row in tx.execute(select(decisions))],
            "logs": [row.attempt_uid.removeprefix("a-") for row in tx.execute(select(log_segments))],
            "workers": [row.worker_id for row in tx.execute(select(workers).where(workers.c.attempt_uid.is_not(None)))],
            "idle": [
                row.worker_id for row in tx.execute(select(workers).where(workers.c.state == int(WorkerState.IDLE)))
            ],
            "all workers": [row.worker_id for row in tx.execute(select(workers))],
        }

    rows = {name: sorted(each) for name, each in (await database.read(found)).items()}
    given = sorted(names[:2])
    assert rows == {
        **dict.fromkeys(("jobs", "events", "attempts", "decisions", "logs"), given),
        "workers": sorted(f"worker-{name}" for name in given),
        "idle": [f"worker-{names[3]}"],
        "all workers": sorted(f"worker-{name}" for name in [*waiting, names[0]]),
    }


async def test_a_worker_whose_first_job_does_not_begin_is_anybodys_again_and_one_that_ran_a_job_stays_its_tenants(
    database: Database,
) -> None:
    """W16: nothing of a tenant has been in the one; of the other's tenant something has."""
    fresh, used, earlier = "to a fresh one", "to a used one", "ran before"

    def bound(tx: Transaction) -> dict[str, tuple[str, int]]:
        return {row.worker_id: (row.tenant, row.state) for row in tx.execute(select(workers))}

    def prepare(tx: Transaction) -> None:
        submitted(tx, [fresh, used, earlier])
        for name in (fresh, used):
            insert_workers(tx, [NewWorker(f"worker-{name}", "process", "", b"", "", 0, None)])
            said_hello(tx, f"worker-{name}")
        first = chosen(earlier, launch=False)
        first = dataclasses.replace(first, assignment=dataclasses.replace(first.assignment, worker_id=f"worker-{used}"))
        assert len(give(tx, [first])) == 1
        assert release_worker(tx, f"worker-{used}", f"a-{earlier}") is not None
        for name in (fresh, used):
            request_cancel(tx, CancelWish(name), lambda _tenant: 1)

    await database.write(prepare)
    idle = int(WorkerState.IDLE)
    before = {f"worker-{fresh}": ("", idle), f"worker-{used}": ("default", idle)}
    assert await database.read(bound) == before
    both = [chosen(name, launch=False) for name in (fresh, used)]
    assert await database.write(lambda tx: give(tx, both)) == []
    assert await database.read(bound) == before
