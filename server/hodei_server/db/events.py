"""The one place that moves a job: a conditional UPDATE and the event that tells of it, in one transaction."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter
from sqlalchemy import ColumnElement, Update, bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei_server.db.batches import Batch
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import attempts, job_events, jobs
from hodei_server.db.secrets import erase_secrets
from hodei_server.db.transaction import Transaction, one_of
from hodei_server.domain.states import Cause, JobState, sources_of
from hodei_server.instruments import JOB_MOVES

_INSERT_EVENT = prepared(insert(job_events))
#: What callers learn of a job that they have moved.
_MOVED = ("number", "job_id", "spec", "traceparent", "state", "version", "reason", "attempt_number", "has_secrets")


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """What a kind of move does beyond writing values: made once, as a constant, so that its statement is built once.

    :param values: columns of `jobs` that change by an expression; its bound parameters are handed in with each move.
    :param only_if: more conditions.
    """

    values: Mapping[str, ColumnElement[Any]] = dataclasses.field(default_factory=dict)
    only_if: tuple[ColumnElement[bool], ...] = ()


PLAIN = Shape()


@functools.cache
def _statement(sources: tuple[JobState, ...], key: str, columns: tuple[str, ...], shape: Shape) -> Update:
    """Return the UPDATE that moves a job.

    :param key: the column that names the job, or its newest attempt.
    :param columns: those that get a value, in parameters that begin with ``to_``.
    """
    job_id: Any = bindparam("key")
    if key == "attempt_uid":
        # By way of its row: jobs have no index by their attempt.
        job_id = select(attempts.c.job_id).where(attempts.c.attempt_uid == bindparam("key")).scalar_subquery()
    conditions = (jobs.c.job_id == job_id, jobs.c[key] == bindparam("key"))
    return prepared(
        update(jobs)
        .where(*conditions, one_of(jobs.c.state, sources), *shape.only_if)
        .values(
            {name: bindparam(f"to_{name}") for name in columns} | {"version": jobs.c.version + 1} | dict(shape.values)
        )
        .returning(*(jobs.c[name] for name in _MOVED))
    )


@functools.cache
def _batch(sources: tuple[JobState, ...], columns: tuple[str, ...], shape: Shape) -> Batch:
    """Return the UPDATE that moves several jobs, named by their ids."""
    return Batch(
        jobs,
        ("job_id", *columns),
        lambda given: (
            update(jobs)
            .where(jobs.c.job_id == given["job_id"], one_of(jobs.c.state, sources), *shape.only_if)
            .values({name: given[name] for name in columns} | {"version": jobs.c.version + 1} | dict(shape.values))
            .returning(*(jobs.c[name] for name in _MOVED))
        ),
    )


def move(
    tx: Transaction,
    target: JobState,
    reason: str,
    *,
    job_id: str | None = None,
    attempt_uid: str | None = None,
    sources: tuple[JobState, ...] | None = None,
    cause: Cause = Cause.UNSPECIFIED,
    values: Mapping[str, Any] | None = None,
    shape: Shape = PLAIN,
    parameters: Mapping[str, Any] | None = None,
) -> RowMapping | None:
    """Move a job, if it is in a state that allows it and, where an attempt is given, if that is still its newest.

    :param job_id: which job; or `attempt_uid`: the job whose newest attempt that is.
    :param sources: fewer states than the table of moves allows.
    :param values: columns of `jobs` that change with the move.
    :param parameters: of the shape's expressions.
    :return: of the job's row after the move, what `_MOVED` names; None when the job was not moved.
    """
    allowed = sources_of(target) if sources is None else sources
    changes = {"state": int(target), "reason": reason, **(values or {})}
    key = "job_id" if job_id is not None else "attempt_uid"
    statement = _statement(allowed, key, tuple(changes), shape)
    bound = {f"to_{name}": value for name, value in changes.items()} | dict(parameters or {})
    bound["key"] = attempt_uid if job_id is None else job_id
    row = tx.execute(statement, bound).mappings().one_or_none()
    if row is not None:
        record_event(tx, row, cause)
        if row["has_secrets"] and target.terminal:
            erase_secrets(tx, row["job_id"])
    return row


def move_each(
    tx: Transaction, target: JobState, changes: Sequence[Mapping[str, Any]], *, shape: Shape = PLAIN
) -> Sequence[RowMapping]:
    """Move several jobs to a state that is no end, each of them as `move` does.

    :param changes: of each job, each once: its ``job_id``, the ``reason``, and the same further columns of `jobs`.
    :return: of the rows of those that were moved, in any order, what `_MOVED` names.
    """
    if not changes:
        return []
    columns = tuple(name for name in changes[0] if name != "job_id")
    batch = _batch(sources_of(target), ("state", *columns), shape)
    rows = batch.run(tx, [{"state": int(target), **each} for each in changes])
    for row in rows:
        record_event(tx, row, Cause.UNSPECIFIED)
    return rows


def record_event(tx: Transaction, row: Mapping[str, Any] | RowMapping, cause: Cause) -> None:
    """Write down the move that `row` is the result of."""
    tx.insert_later(
        _INSERT_EVENT,
        {
            "job_id": row["job_id"],
            "version": row["version"],
            "state": row["state"],
            "cause": int(cause),
            "reason": row["reason"],
            "attempt_number": row["attempt_number"],
            "at": tx.now,
        },
    )
    tx.once_committed(_moves_into(row["state"], cause).inc)


@functools.cache
def _moves_into(state: int, cause: Cause) -> Counter:
    """Return what counts the moves into a state for a cause: to find it by its labels takes longer than to count."""
    return JOB_MOVES.labels(JobState(state).name.lower(), cause.name.lower() if cause else "none")
