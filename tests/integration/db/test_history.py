"""A long history costs nothing: what the database does for a question does not grow with the jobs that have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, func, select, text

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_bench.filled import copy_jobs
from hodei_faults.database_work import measured_on, slack_of
from hodei_server.db.attempts import Assignment, LogEnd, active_attempts, assign, finish, keep_result
from hodei_server.db.decisions import list_decisions
from hodei_server.db.engine import open_engine
from hodei_server.db.events import move
from hodei_server.db.job_listing import JobFilter, list_jobs
from hodei_server.db.job_queries import (
    attempts_of,
    events_after,
    list_workers,
    next_wake,
    queue_page,
    queue_position,
    queued_count,
    queued_tenants,
)
from hodei_server.db.jobs import NewJob, expire_queued, insert_job, job_row
from hodei_server.db.retention import expired_jobs
from hodei_server.db.schema import attempts, job_events, job_labels, jobs, log_segments, workers
from hodei_server.db.schema_version import _config, upgrade
from hodei_server.db.segments import closed_segments, segments_of
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import (
    NewWorker,
    confirm_removal,
    counts_by_provider,
    insert_workers,
    live_workers,
    worker_groups,
)
from hodei_server.domain.states import Cause, JobState

FEW, MANY = 300, 15_000


def _listed(limit: int = 10, before: int | None = None, **wanted: Any) -> Callable[[Transaction], object]:
    return lambda tx: list_jobs(tx, JobFilter("default", **wanted), before, limit)


#: Everything that is asked while clients submit, list and read, and jobs are given to workers.
QUESTIONS: dict[str, Callable[[Transaction], object]] = {
    "list": _listed(),
    "list a later page": _listed(before=100),
    "list one state": _listed(states=[JobState.SUCCEEDED]),
    "list a rare state": _listed(states=[JobState.QUEUED]),
    "list ended": _listed(states=[JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT]),
    "list a name": _listed(name="history"),
    "list a name's beginning": _listed(name="his*"),
    "list a rare beginning": _listed(name="waits*"),
    "list a label": _listed(labels={"made": "by-hand"}),
    "list a rare label": _listed(labels={"made": "later"}),
    "list a provider": _listed(provider="process"),
    "list an unknown provider": _listed(provider="other"),
    "list since long ago": _listed(submitted_after=1),
    "list since just now": _listed(submitted_after=1 << 60),
    "list what is rare and what is common": _listed(provider="process", labels={"made": "later"}, name="waits*"),
    "list what is common twice": _listed(provider="process", states=[JobState.SUCCEEDED]),
    "get": lambda tx: (job_row(tx, "newest"), attempts_of(tx, "newest"), events_after(tx, "newest", 0)),
    "queue": lambda tx: (queued_tenants(tx), queue_page(tx, "default", None, 10), queued_count(tx), next_wake(tx)),
    "queue position": lambda tx: queue_position(tx, job_row(tx, "newest")),  # type: ignore[arg-type]
    "queue timeouts": lambda tx: expire_queued(tx, lambda _: 1),
    "attempts under way": active_attempts,
    "workers": lambda tx: (live_workers(tx), counts_by_provider(tx), worker_groups(tx)),
    "a job's decisions": lambda tx: list_decisions(tx, job_id="newest", limit=10),
    "decisions": lambda tx: list_decisions(tx, tenant="default", limit=10),
    "list workers": lambda tx: list_workers(tx, "", include_gone=False, after="", limit=10),
    "segments": lambda tx: (segments_of(tx, "attempt"), closed_segments(tx, "server", 10)),
    "retention": lambda tx: expired_jobs(tx, 10),
    "submit": lambda tx: insert_job(tx, NewJob("another", wire.JobSpec(argv=["true"], name="x"), "", "another")),
    "dispatch": lambda tx: assign(tx, [Assignment("newest", "next", "process", "w2", "server", 1)]),
    "move": lambda tx: move(tx, JobState.CANCELLED, "", job_id="newest", cause=Cause.CANCELLED),
}


def fill(database: Connection, count: int) -> None:
    """Run one job by hand, copy it, and let another one wait."""
    tx = Transaction(database)
    spec = wire.JobSpec(argv=["true"], name="history", labels={"made": "by-hand"})
    insert_job(tx, NewJob("oldest", spec, "anonymous", "oldest"))
    insert_workers(tx, [NewWorker("w1", "process", "default", b"", "", 1, "attempt")])
    assign(tx, [Assignment("oldest", "attempt", "process", "w1", "server", 60_000_000)])
    tx.flush()
    result = worker_wire.AttemptResult(attempt_uid="attempt", epoch=1, cause=wire.CAUSE_EXIT_CODE, exit_code=0)
    keep_result(tx, result)
    end = LogEnd(next_sequence=0, complete=True, open_segment=None)
    finish(tx, "attempt", end, 3_600_000_000)
    confirm_removal(tx, "w1")
    tx.execute(text("UPDATE log_segments SET state = 3, next_sequence = 0"))
    tx.flush()
    copy_jobs(database, count)
    for table in (jobs, job_events, attempts, log_segments, workers):
        assert database.scalar(select(func.count()).select_from(table)) >= count, table.name  # type: ignore[operator]
    ended = select(func.count()).where(jobs.c.state == int(JobState.SUCCEEDED))
    assert database.scalar(ended) == count + 1
    insert_job(tx, NewJob("newest", wire.JobSpec(argv=["true"], name="waits", labels={"made": "later"}), "anonymous"))
    insert_workers(tx, [NewWorker("w2", "process", "default", b"", "", 1, None)])
    tx.flush()


def work_with(engine: Engine, count: int) -> dict[str, int]:
    """Fill a database; return what each question costs it."""
    upgrade(engine)
    with engine.connect() as connection:
        database = connection.execution_options(hodei_writer=True)
        fill(database, count)
        database.commit()
    measured = measured_on(engine)
    return {name: measured(question) for name, question in QUESTIONS.items()}


def test_no_question_costs_more_when_more_jobs_have_ended(engines: tuple[Engine, Engine]) -> None:
    """Counted in what the engine does, not in seconds: fifty times the history, at most half as much work again.

    What is left grows with the depth of the indexes, a few steps or blocks at a time.
    """
    few, many = (work_with(engine, count) for engine, count in zip(engines, (FEW, MANY), strict=True))
    slack = slack_of(engines[0])
    grown = {name: (few[name], many[name]) for name in QUESTIONS if many[name] > 1.5 * few[name] + slack}
    assert grown == {}


def test_a_beginning_of_a_name_is_told_apart_by_case(database_url: str) -> None:
    """Both engines find the same jobs."""
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        tx = Transaction(connection.execution_options(hodei_writer=True))
        for name in ("train", "TRAIN-2", "train_3", "tra"):
            insert_job(tx, NewJob(name, wire.JobSpec(argv=["true"], name=name), "anonymous"))
        tx.flush()
        found = [row["name"] for row in list_jobs(tx, JobFilter("default", name="train*"), None, 10)]
    engine.dispose()
    assert found == ["train_3", "train"]


def test_rare_and_common_properties_together_lose_no_job(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rounds over the rarest property find what one walk over all jobs would."""
    monkeypatch.setattr("hodei_server.db.job_listing.LOOKED_AT", 3)
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        tx = Transaction(connection.execution_options(hodei_writer=True))
        for number in range(60):
            labels = {key: "1" for key, each in (("two", 2), ("three", 3), ("seven", 7)) if number % each == 0}
            name = "four" if number % 4 == 0 else "other"
            spec = wire.JobSpec(argv=["true"], name=name, labels=labels, tenant="a" if number % 5 else "b")
            insert_job(tx, NewJob(str(number), spec, "anonymous"))

        def pages(wanted: JobFilter) -> list[int]:
            found, before = [], None
            while page := list_jobs(tx, wanted, before, 2):
                found += [int(row["job_id"]) for row in page]
                before = page[-1]["number"]
            return found

        both = pages(JobFilter("a", labels={"two": "1", "three": "1"}))
        named = pages(JobFilter("a", labels={"three": "1"}, name="fo*", states=[JobState.QUEUED], submitted_after=1))
    engine.dispose()
    assert both == [number for number in range(59, -1, -1) if number % 6 == 0 and number % 5]
    assert named == [number for number in range(59, -1, -1) if number % 12 == 0 and number % 5]


def test_workers_that_are_gone_are_listed_only_where_asked_for(database_url: str) -> None:
    """The others go by an index of their states."""
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        tx = Transaction(connection.execution_options(hodei_writer=True))
        for worker_id in ("w1", "w2"):
            insert_workers(tx, [NewWorker(worker_id, "process", "default", b"", "", 1, None)])
        confirm_removal(tx, "w1")
        live = [row["worker_id"] for row in list_workers(tx, "", include_gone=False, after="", limit=10)]
        everyone = [row["worker_id"] for row in list_workers(tx, "", include_gone=True, after="", limit=10)]
        counted = tx.connection.scalar(text(f"SELECT count(*) FROM {workers.name}"))  # noqa: S608 - a name of ours
    engine.dispose()
    assert (live, everyone, counted) == (["w2"], ["w1", "w2"], 2)


def test_the_way_back_and_forth_through_the_schemas_loses_no_row(database_url: str) -> None:
    """SQLite would drop what hangs on a table that is copied: jobs' attempts, labels and segments."""
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        database = connection.execution_options(hodei_writer=True)
        fill(database, 3)
        database.commit()

    def counts() -> dict[str, int]:
        with engine.connect() as database:
            tables = (jobs, job_labels, job_events, attempts, log_segments, workers)
            return {table.name: database.scalar(select(func.count()).select_from(table)) or 0 for table in tables}

    before = counts()
    assert all(before.values())
    command.downgrade(_config(engine), "0002")
    upgrade(engine)
    after = counts()
    engine.dispose()
    assert after == before


def test_attempts_from_before_are_found_by_their_provider(database_url: str) -> None:
    """What the upgrade adds to rows that are there is what new rows get; the way back works, too."""
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        database = connection.execution_options(hodei_writer=True)
        fill(database, 3)
        database.commit()
    command.downgrade(_config(engine), "0002")
    upgrade(engine)
    with engine.connect() as database:
        found = list_jobs(Transaction(database), JobFilter("default", provider="process"), None, 10)
        none = list_jobs(Transaction(database), JobFilter("default", provider="other"), None, 10)
    engine.dispose()
    assert [row["number"] for row in found] == [4, 3, 2, 1]
    assert not none
