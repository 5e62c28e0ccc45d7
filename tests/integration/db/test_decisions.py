"""What is written down of decisions, on each engine."""

from __future__ import annotations

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_server.db.database import Database
from hodei_server.db.decisions import MOST_WAITING, NewDecision, insert_decisions, list_decisions
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.retention import mark_expired
from hodei_server.db.transaction import Transaction


async def test_a_job_that_waits_for_ever_does_not_fill_the_database(database: Database) -> None:
    """The newest reasons are kept, and every placement; another job's are not touched."""
    jobs = ("jone", "jtwo")

    def submit(tx: Transaction) -> None:
        for job_id in jobs:
            insert_job(tx, NewJob(job_id=job_id, principal="", spec=wire.JobSpec(argv=["true"])))

    await database.write(submit)

    async def insert(decision: job_pb2.Decision, attempt_uid: str | None) -> None:
        new = NewDecision(decision.job_id, "default", attempt_uid, decision.SerializeToString())
        await database.write(lambda tx: insert_decisions(tx, [new]))

    for number in range(MOST_WAITING + 7):
        for job_id in jobs[: 1 if number else 2]:
            await insert(job_pb2.Decision(job_id=job_id, reason=str(number)), None)
        await insert(job_pb2.Decision(job_id="jone", reason="placed", attempt_number=number + 1), f"u{number}")

    async def reasons(job_id: str) -> list[str]:
        rows = await database.read(lambda tx: list_decisions(tx, job_id=job_id, limit=1000))
        return [job_pb2.Decision.FromString(row["decision"]).reason for row in rows]

    kept = await reasons("jone")
    newest = [str(number) for number in reversed(range(7, MOST_WAITING + 7))]
    assert [reason for reason in kept if reason != "placed"] == newest
    assert kept.count("placed") == MOST_WAITING + 7
    assert await reasons("jtwo") == ["0"]
    # They go with the job's logs.
    await database.write(lambda tx: mark_expired(tx, ["jone"]))
    assert (await reasons("jone"), await reasons("jtwo")) == ([], ["0"])
