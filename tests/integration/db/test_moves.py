"""Moves of jobs on real databases: each happens once, or not at all."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import insert, select, update

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.db.archive import removable_segments
from hodei_server.db.attempts import Assignment, LogEnd, assign, attempt_started, finish, keep_result
from hodei_server.db.database import Database
from hodei_server.db.job_listing import JobFilter, list_jobs
from hodei_server.db.job_queries import events_after, next_wake, queue_page, queue_position
from hodei_server.db.jobs import (
    CancelWish,
    NewJob,
    duration_micros,
    expire_queued,
    insert_job,
    job_row,
    request_cancel,
)
from hodei_server.db.retention import expired_jobs, mark_expired
from hodei_server.db.schema import attempts, job_events, jobs
from hodei_server.db.transaction import Transaction
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.domain.states import JobState

HOUR = 3_600_000_000


def log_ttl(_tenant: str) -> int:
    """Return for how long logs are kept."""
    return HOUR


async def submit(database: Database, **fields: Any) -> str:
    """Store a job and return its id."""
    request_id = fields.pop("request_id", "")
    values: dict[str, Any] = {"argv": ["true"], **fields}
    new = NewJob(new_job_id(), wire.JobSpec(**values), "anonymous", request_id)
    return (await database.write(lambda tx: insert_job(tx, new))).job_id


async def dispatch(database: Database, job_id: str) -> str:
    """Give a job an attempt and return its uid."""
    uid = new_attempt_uid()
    given = Assignment(job_id, uid, "process", "w1", "server", 60_000_000)
    assert await database.write(lambda tx: assign(tx, [given]))
    return uid


async def state(database: Database, job_id: str) -> JobState:
    """Return a job's state."""
    row = await database.read(lambda tx: job_row(tx, job_id))
    assert row is not None
    return JobState(row["state"])


def result(uid: str, **fields: Any) -> worker_wire.AttemptResult:
    """Return what a worker says of a process that has exited with 0."""
    values: dict[str, Any] = {"attempt_uid": uid, "epoch": 1, "cause": wire.CAUSE_EXIT_CODE, "exit_code": 0, **fields}
    return worker_wire.AttemptResult(**values)


END = LogEnd(next_sequence=0, complete=True, open_segment=None)


async def end(database: Database, message: worker_wire.AttemptResult) -> None:
    """Keep a result and finish its attempt."""

    def write(tx: Transaction) -> None:
        keep_result(tx, message)
        finish(tx, message.attempt_uid, END, 1_000_000)

    await database.write(write)


async def test_a_job_goes_through_its_states_and_each_move_is_told(database: Database) -> None:
    """The history is what the moves wrote."""
    job_id = await submit(database)
    uid = await dispatch(database, job_id)
    await database.write(lambda tx: attempt_started(tx, uid, 1, None))
    await end(database, result(uid))
    events = await database.read(lambda tx: events_after(tx, job_id, 0))
    assert [JobState(event["state"]).name for event in events] == [
        "QUEUED",
        "STARTING",
        "RUNNING",
        "FINISHING",
        "SUCCEEDED",
    ]
    assert [event["version"] for event in events] == [1, 2, 3, 4, 5]


async def test_a_job_is_given_out_once(database: Database) -> None:
    """W14: of two that want it, one gets it."""
    job_id = await submit(database)
    uids = [new_attempt_uid() for _ in range(10)]

    def give(tx: Transaction, uid: str) -> bool:
        return bool(assign(tx, [Assignment(job_id, uid, "process", "w1", "server", 1)]))

    given = await asyncio.gather(*(database.write(functools.partial(give, uid=uid)) for uid in uids))
    assert sum(given) == 1


async def test_a_result_that_comes_twice_or_late_changes_nothing(database: Database) -> None:
    """W32: late and repeated messages are harmless."""
    job_id = await submit(database)
    uid = await dispatch(database, job_id)
    await end(database, result(uid))
    await end(database, result(uid, exit_code=1))
    assert await database.write(lambda tx: attempt_started(tx, uid, 1, None)) is None
    assert await state(database, job_id) is JobState.SUCCEEDED


async def test_a_fenced_worker_is_not_heard(database: Database) -> None:
    """W14: what an attempt's old owner says after it was given up does not count."""
    job_id = await submit(database)
    uid = await dispatch(database, job_id)
    lost = result(uid, cause=wire.CAUSE_WORKER_LOST, epoch=2)
    lost.ClearField("exit_code")
    await database.write(lambda tx: keep_result(tx, lost, fence=True))
    assert await database.write(lambda tx: keep_result(tx, result(uid))) is None
    await database.write(lambda tx: finish(tx, uid, END, 1))
    assert await state(database, job_id) is JobState.QUEUED


async def test_a_failure_is_retried_as_often_as_was_asked(database: Database) -> None:
    """And the next attempt has another uid."""
    job_id = await submit(database, retry={"max_attempts": 2, "initial_backoff": {}})
    first = await dispatch(database, job_id)
    await end(database, result(first, exit_code=1))
    assert await state(database, job_id) is JobState.QUEUED
    second = await dispatch(database, job_id)
    assert first != second
    await end(database, result(second, exit_code=1))
    assert await state(database, job_id) is JobState.FAILED


async def test_a_cancelled_job_is_neither_given_out_nor_queued_again(database: Database) -> None:
    """W16, W45: the wish stands beside the state and every later move heeds it."""
    waiting = await submit(database)
    await database.write(lambda tx: request_cancel(tx, CancelWish(waiting), log_ttl))
    assert await state(database, waiting) is JobState.CANCELLED
    given = Assignment(waiting, new_attempt_uid(), "process", "w1", "server", 1)
    assert not await database.write(lambda tx: assign(tx, [given]))
    running = await submit(database, retry={"max_attempts": 5})
    uid = await dispatch(database, running)
    await database.write(lambda tx: request_cancel(tx, CancelWish(running), log_ttl))
    await end(database, result(uid, exit_code=1))
    assert await state(database, running) is JobState.FAILED


async def test_a_failed_write_harms_no_other_of_its_batch(database: Database) -> None:
    """Those that share a transaction with it are written all the same."""

    def fails(tx: Transaction) -> None:
        tx.execute(insert(jobs), {"number": 1})

    outcomes = await asyncio.gather(submit(database), database.write(fails), submit(database), return_exceptions=True)
    assert isinstance(outcomes[1], Exception)
    for job_id in (outcomes[0], outcomes[2]):
        assert isinstance(job_id, str)
        assert await state(database, job_id) is JobState.QUEUED


async def test_a_submission_is_stored_once(database: Database) -> None:
    """The same request_id gives the same job; another job under it is noticed."""
    first = await submit(database, request_id="r")
    again = NewJob(new_job_id(), wire.JobSpec(argv=["true"]), "anonymous", "r")
    other = NewJob(new_job_id(), wire.JobSpec(argv=["false"]), "anonymous", "r")
    assert (await database.write(lambda tx: insert_job(tx, again))).job_id == first
    assert (await database.write(lambda tx: insert_job(tx, other))).conflict


async def test_the_queue_goes_by_priority_then_by_time(database: Database) -> None:
    """And a place in it is counted the same way."""
    low, high, middle = [await submit(database, priority=number) for number in (-1, 5, 0)]
    page = await database.read(lambda tx: queue_page(tx, "default", None, 10))
    assert [row["job_id"] for row in page] == [high, middle, low]
    row = await database.read(lambda tx: job_row(tx, low))
    assert row is not None
    assert await database.read(lambda tx: queue_position(tx, row)) == 3
    rest = await database.read(lambda tx: queue_page(tx, "default", page[0], 10))
    assert [each["job_id"] for each in rest] == [middle, low]


async def test_waiting_too_long_ends_a_job(database: Database) -> None:
    """W05: the queue has its own clock; a microsecond is not nothing (W40)."""
    job_id = await submit(database, queue_timeout={"nanos": 1})
    other = await submit(database, run_timeout={"nanos": 1})
    await database.write(lambda tx: expire_queued(tx, log_ttl))
    assert await state(database, job_id) is JobState.TIMED_OUT
    assert await state(database, other) is JobState.QUEUED


async def test_the_queues_clock_stands_still_while_there_is_an_attempt(database: Database) -> None:
    """W05: what a job spent starting and running does not count as waiting when it is queued again."""
    job_id = await submit(database, queue_timeout={"seconds": 60}, retry={"max_attempts": 2, "initial_backoff": {}})
    uid = await dispatch(database, job_id)

    def an_hour_passes(tx: Transaction) -> None:
        tx.execute(update(attempts).values(created_at=attempts.c.created_at - HOUR))
        tx.execute(update(jobs).values(queue_deadline=jobs.c.queue_deadline - HOUR))

    await database.write(an_hour_passes)
    await end(database, result(uid, exit_code=1))
    assert await database.write(lambda tx: expire_queued(tx, log_ttl)) == []
    assert await state(database, job_id) is JobState.QUEUED


@pytest.mark.parametrize("by", ["a wish", "its clock"])
async def test_logs_of_a_job_that_ends_while_it_waits_for_another_attempt_go_in_their_time(
    database: Database, by: str
) -> None:
    """L21: they count from its end, by its own time to live or its tenant's; a job that had no attempt has none."""
    expected = {}
    for fields, kept in (({"log_ttl": {"seconds": 2}}, 2_000_000), ({}, HOUR)):
        job_id = await submit(database, retry={"max_attempts": 2}, **fields)
        await end(database, result(await dispatch(database, job_id), exit_code=1))
        expected[job_id] = kept
    never_ran = await submit(database)
    for job_id in (*expected, never_ran):
        if by == "a wish":
            wish = CancelWish(job_id)
            await database.write(functools.partial(request_cancel, wish=wish, log_ttl=log_ttl))
        else:
            await database.write(lambda tx: tx.execute(update(jobs).values(queue_deadline=1)))
            await database.write(lambda tx: expire_queued(tx, log_ttl))
        row = await database.read(functools.partial(job_row, job_id=job_id))
        assert row is not None
        assert JobState(row["state"]).terminal
        found = None if row["logs_expire_at"] is None else row["logs_expire_at"] - row["ended_at"]
        assert found == expected.get(job_id)


async def test_durations_are_kept_to_the_microsecond(database: Database) -> None:
    """W40: a second and a half is neither one nor two, and what is positive is never nothing."""
    job_id = await submit(database, queue_timeout={"seconds": 1, "nanos": 500_000_900})
    row = await database.read(lambda tx: job_row(tx, job_id))
    assert row is not None
    assert row["queue_deadline"] - row["submitted_at"] == 1_500_000
    assert duration_micros(Duration(nanos=1)) == 1
    ended = await submit(database, log_ttl={"nanos": 250_000_000})
    await end(database, result(await dispatch(database, ended)))
    row = await database.read(lambda tx: job_row(tx, ended))
    assert row is not None
    assert row["logs_expire_at"] - row["ended_at"] == 250_000


async def test_filters_of_the_list_work_together(database: Database) -> None:
    """Name, labels, states, pages: each narrows what the others leave."""
    wanted = await submit(database, name="train-1", labels={"team": "a", "x": "1"})
    await submit(database, name="train-2", labels={"team": "b"})
    await submit(database, name="other", labels={"team": "a"})
    found = await database.read(
        lambda tx: list_jobs(tx, JobFilter("default", name="train*", labels={"team": "a"}), None, 10)
    )
    assert [row["job_id"] for row in found] == [wanted]
    percent = await database.read(lambda tx: list_jobs(tx, JobFilter("default", name="%*"), None, 10))
    assert not percent
    newest = await database.read(lambda tx: list_jobs(tx, JobFilter("default"), None, 1))
    older = await database.read(lambda tx: list_jobs(tx, JobFilter("default"), newest[0]["number"], 10))
    assert len(older) == 2


async def test_only_logs_of_ended_jobs_expire(database: Database) -> None:
    """L21, L22: by the recorded end, never a running job's."""
    ended = await submit(database, log_ttl={"nanos": 1})
    attempt = await dispatch(database, ended)
    await end(database, result(attempt))
    running = await submit(database, log_ttl={"nanos": 1})
    await dispatch(database, running)
    found = await database.read(lambda tx: expired_jobs(tx, 10))
    assert list(found) == [ended]
    await database.write(lambda tx: mark_expired(tx, found))
    assert not await database.read(lambda tx: expired_jobs(tx, 10))
    (segment,) = await database.read(lambda tx: removable_segments(tx, "server", 10, s3=False))
    assert segment.attempt_uid == attempt


async def test_every_version_is_told_once(database: Database) -> None:
    """Many moves at once leave no two events of one version."""
    ids = await asyncio.gather(*(submit(database) for _ in range(50)))
    moves = [functools.partial(request_cancel, wish=CancelWish(job_id), log_ttl=log_ttl) for job_id in ids]
    await asyncio.gather(*(database.write(move) for move in moves))
    rows = await database.read(lambda tx: tx.execute(select(job_events.c.job_id, job_events.c.version)).all())
    assert len(rows) == len(set(rows)) == 100


async def test_the_next_wake_lies_ahead(database: Database) -> None:
    """A back-off that is over does not keep the dispatcher awake; one that is not says when to look again."""
    for backoff in ({"nanos": 1000}, {"seconds": 60}):
        assert await database.read(next_wake) is None
        retried = await submit(database, retry={"max_attempts": 3, "initial_backoff": backoff})
        await end(database, result(await dispatch(database, retried), exit_code=1))
    found, now = await database.read(lambda tx: (next_wake(tx), tx.now))
    assert found is not None
    assert found > now
