"""What becomes of workers' rows."""

from __future__ import annotations

from sqlalchemy import select, update

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment, assign, release_worker
from hodei_server.db.database import Database
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.retention import remove_jobs
from hodei_server.db.schema import jobs, log_segments, workers
from hodei_server.db.segments import Place
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import (
    NewWorker,
    begin_removal,
    burn_otp,
    confirm_removal,
    insert_workers,
    recent_starts,
    said_hello,
    set_otp,
    take_workers,
    worker_of_session,
)
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.domain.states import JobState


def idle_worker(tx: Transaction, worker_id: str = "w1") -> None:
    """Write down a worker that waits."""
    insert_workers(tx, [NewWorker(worker_id, "process", "", b"", "", 5, None)])
    said_hello(tx, worker_id)


async def test_a_worker_that_was_given_a_job_meanwhile_is_not_removed_as_idle(database: Database) -> None:
    """W20: whoever found it idle looked before; its job would be killed, and nobody would be told."""
    await database.write(idle_worker)
    assert await database.write(lambda tx: take_workers(tx, [("w1", "uid", "default")]))
    assert await database.write(lambda tx: begin_removal(tx, "w1", "idle for too long", idle=True)) is None
    assert await database.read(lambda tx: tx.execute(select(workers.c.removal_reason)).scalar_one()) is None
    assert await database.write(lambda tx: begin_removal(tx, "w1", "lost")) is not None


async def test_the_newest_thousand_starts_are_told_by_provider_and_image(database: Database) -> None:
    """What the next server makes its estimates of, the oldest first; of a worker that never said hello nothing."""

    def started(tx: Transaction) -> None:
        for number in range(1002):
            name, image = ("docker", "busybox") if number % 2 else ("process", "")
            worker_id = f"w{number:04}"
            insert_workers(tx, [NewWorker(worker_id, name, "", b"", image, 5, None)])
            times = {"created_at": 1000 * number, "hello_at": 1001 * number}
            tx.execute(update(workers).where(workers.c.worker_id == worker_id).values(times))
        insert_workers(tx, [NewWorker("silent", "process", "", b"", "", 5, None)])

    await database.write(started)
    found = await database.read(recent_starts)
    assert [(row["provider"], row["image"], row["took"]) for row in found] == [
        ("docker", "busybox", number) if number % 2 else ("process", "", number) for number in range(2, 1002)
    ]


async def test_workers_go_with_the_jobs_they_ran(database: Database) -> None:
    """L22: a million jobs leave no million workers; one that is there still stays."""
    for number, removed in enumerate([True, False]):
        job, worker = new_job_id(), f"w{number}"
        spec = wire.JobSpec(argv=["true"])
        await database.write(lambda tx, job=job, spec=spec: insert_job(tx, NewJob(job, spec, "anonymous")))  # type: ignore[misc]
        given = Assignment(job, new_attempt_uid(), "process", worker, "server", 60_000_000)
        await database.write(lambda tx, given=given: assign(tx, [given]))  # type: ignore[misc]
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


async def test_a_one_time_token_is_burnt_once(database: Database) -> None:
    """W24: the same nonce is answered again until the first hello; nobody else is."""
    new = NewWorker("w1", "process", "default", b"", "", 1, None)
    await database.write(lambda tx: insert_workers(tx, [new]))
    assert await database.write(lambda tx: set_otp(tx, "w1", "secret", 60_000_000))

    async def burn(otp: str, nonce: bytes, worker_id: str = "w1") -> str | None:
        return await database.write(lambda tx: burn_otp(tx, worker_id, otp, nonce, "session"))

    assert await burn("wrong", b"n") is not None
    assert await burn("secret", b"n", "w2") is not None
    assert await burn("secret", b"n") is None
    assert await burn("secret", b"n") is None
    assert await burn("secret", b"m") is not None
    assert await database.read(lambda tx: worker_of_session(tx, "session")) is not None
    await database.write(lambda tx: said_hello(tx, "w1"))
    assert await burn("secret", b"n") is not None


async def test_an_expired_token_is_refused(database: Database) -> None:
    """It lives as long as a start may take."""
    new = NewWorker("w1", "process", "default", b"", "", 1, None)
    await database.write(lambda tx: insert_workers(tx, [new]))
    await database.write(lambda tx: set_otp(tx, "w1", "secret", -1))
    refusal = await database.write(lambda tx: burn_otp(tx, "w1", "secret", b"n", "session"))
    assert refusal == "the one-time token has expired"


async def test_a_finished_attempt_frees_its_worker(database: Database) -> None:
    """A worker that may run one job drains; one that may run more is idle again."""
    for worker_id, most, expected in (("w1", 1, 4), ("w2", 2, 2)):
        new = NewWorker(worker_id, "process", "default", b"", "", most, "uid")
        await database.write(lambda tx, new=new: insert_workers(tx, [new]))  # type: ignore[misc]
        await database.write(lambda tx, name=worker_id: said_hello(tx, name))  # type: ignore[misc]
        row = await database.write(lambda tx, name=worker_id: release_worker(tx, name, "uid"))  # type: ignore[misc]
        assert row is not None
        assert row["state"] == expected
