"""The one place that moves a job: a conditional UPDATE and the event that tells of it, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.engine import RowMapping

from hodei_server.db.database import Transaction
from hodei_server.db.schema import job_events, jobs
from hodei_server.domain.states import Cause, JobState, sources_of


def move(
    tx: Transaction,
    target: JobState,
    reason: str,
    *,
    job_id: str | None = None,
    attempt_uid: str | None = None,
    sources: tuple[JobState, ...] | None = None,
    cause: Cause = Cause.UNSPECIFIED,
    values: dict[str, Any] | None = None,
    only_if: tuple[Any, ...] = (),
) -> RowMapping | None:
    """Move a job, if it is in a state that allows it and, where an attempt is given, if that is still its newest.

    :param sources: fewer states than the table of moves allows.
    :param values: columns of `jobs` that change with the move.
    :param only_if: more conditions.
    :return: the job's row after the move; None when the job was not moved.
    """
    allowed = sources_of(target) if sources is None else sources
    statement = update(jobs).where(jobs.c.state.in_([int(state) for state in allowed]), *only_if)
    if job_id is not None:
        statement = statement.where(jobs.c.job_id == job_id)
    if attempt_uid is not None:
        statement = statement.where(jobs.c.attempt_uid == attempt_uid)
    statement = statement.values(state=int(target), version=jobs.c.version + 1, reason=reason, **(values or {}))
    row = tx.execute(statement.returning(*jobs.c)).mappings().one_or_none()
    if row is not None:
        record_event(tx, row, cause)
    return row


def record_event(tx: Transaction, row: RowMapping, cause: Cause) -> None:
    """Write down the move that `row` is the result of."""
    tx.execute(
        insert(job_events),
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
