"""What is asked of jobs and workers. Every query goes by an index, however many jobs have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, text, tuple_
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import BACKING_OFF, attempts, beside_key, job_events, jobs, workers
from hodei_server.db.transaction import Transaction, one_of
from hodei_server.domain.states import INFRASTRUCTURE_CAUSES, UNFINISHED_STATES, Cause, JobState
from hodei_server.domain.workers import LIVE_STATES

_LOWEST_RANK = -(1 << 63)
# One tenant after the other: so each step goes by the queue's index, in its order, and sorts nothing.
_NEXT_TENANT = prepared(
    select(func.min(jobs.c.tenant)).where(jobs.c.state == int(JobState.QUEUED), jobs.c.tenant > bindparam("after"))
)
_QUEUE = prepared(
    select(
        jobs.c.job_id,
        jobs.c.tenant,
        jobs.c.spec,
        jobs.c.queue_rank,
        jobs.c.number,
        jobs.c.submitted_at,
        jobs.c.not_before,
        jobs.c.attempt_number,
        jobs.c.infrastructure_failures,
    )
    .where(
        jobs.c.state == int(JobState.QUEUED),
        jobs.c.tenant == bindparam("of_tenant"),
        tuple_(jobs.c.queue_rank, jobs.c.number) > tuple_(bindparam("after_rank"), bindparam("after_number")),
        jobs.c.not_before <= bindparam("now"),
        jobs.c.cancel_requested_at.is_(None),
    )
    .order_by(jobs.c.queue_rank, jobs.c.number)
    .limit(bindparam("most"))
)
_NEXT_WAKE = select(func.min(jobs.c.not_before)).where(
    text(BACKING_OFF), jobs.c.not_before > bindparam("now"), beside_key(jobs.c.state) == int(JobState.QUEUED)
)
_EVENTS_AFTER = (
    select(*job_events.c)
    .where(job_events.c.job_id == bindparam("id"), job_events.c.version > bindparam("after"))
    .order_by(job_events.c.version)
)
_ATTEMPT = select(*attempts.c).where(attempts.c.attempt_uid == bindparam("uid"))
_ATTEMPTS_OF = select(*attempts.c).where(attempts.c.job_id == bindparam("id")).order_by(attempts.c.number)
_COUNTS = select(jobs.c.state, func.count().label("held")).where(one_of(jobs.c.state, UNFINISHED_STATES))
_FIRST_QUEUED = select(func.min(jobs.c.number)).where(jobs.c.state == int(JobState.QUEUED)).scalar_subquery()
_OLDEST_QUEUED = select(jobs.c.submitted_at).where(jobs.c.number == _FIRST_QUEUED)


def attempts_of(tx: Transaction, job_id: str) -> Sequence[RowMapping]:
    """Return a job's attempts, the first one first."""
    return tx.execute(_ATTEMPTS_OF, {"id": job_id}).mappings().all()


def providers_that_failed(tx: Transaction, job: Mapping[Any, Any]) -> dict[str, int]:
    """Return the providers at which the infrastructure has failed a job, with the newest such attempt's number."""
    if not job["attempt_number"]:
        return {}
    failed: dict[str, int] = {}
    for attempt in attempts_of(tx, job["job_id"]):
        outcome = wire.Outcome.FromString(attempt["outcome"] or b"")
        if Cause(outcome.cause) in INFRASTRUCTURE_CAUSES:
            failed[attempt["provider"]] = attempt["number"]
    return failed


def attempt_row(tx: Transaction, attempt_uid: str) -> RowMapping | None:
    """Return an attempt's row."""
    return tx.execute(_ATTEMPT, {"uid": attempt_uid}).mappings().one_or_none()


def events_after(tx: Transaction, job_id: str, version: int) -> Sequence[RowMapping]:
    """Return a job's moves after a version, in order."""
    return tx.execute(_EVENTS_AFTER, {"id": job_id, "after": version}).mappings().all()


def queue_position(tx: Transaction, row: RowMapping) -> int:
    """Return a waiting job's place among its tenant's, from 1."""
    ahead = select(func.count()).where(
        jobs.c.state == int(JobState.QUEUED),
        jobs.c.tenant == row["tenant"],
        tuple_(jobs.c.queue_rank, jobs.c.number) < tuple_(row["queue_rank"], row["number"]),
    )
    return int(tx.connection.scalar(ahead) or 0) + 1


def queued_count(tx: Transaction) -> int:
    """Return how many jobs wait."""
    return int(tx.connection.scalar(select(func.count()).where(jobs.c.state == int(JobState.QUEUED))) or 0)


def queued_tenants(tx: Transaction) -> Sequence[str]:
    """Return the tenants that have waiting jobs."""
    found: list[str] = []
    while (tenant := tx.execute(_NEXT_TENANT, {"after": found[-1] if found else ""}).scalar()) is not None:
        found.append(tenant)
    return found


def queue_page(tx: Transaction, tenant: str, after: Mapping[Any, Any] | None, limit: int) -> Sequence[RowMapping]:
    """Return a tenant's waiting jobs that may be dispatched now, in the order of dispatch.

    :param after: the last one of the page before.
    """
    rank, number = (after["queue_rank"], after["number"]) if after is not None else (_LOWEST_RANK, 0)
    bound = {"of_tenant": tenant, "after_rank": rank, "after_number": number, "now": tx.now, "most": limit}
    return tx.execute(_QUEUE, bound).mappings().all()


def next_wake(tx: Transaction) -> int | None:
    """Return when the next waiting job's back-off ends, in microseconds; None for never."""
    return tx.execute(_NEXT_WAKE, {"now": tx.now}).scalar()


def list_workers(tx: Transaction, provider: str, *, include_gone: bool, after: str, limit: int) -> Sequence[RowMapping]:
    """Return workers in the order of their ids, with the job of those that have one."""
    query = (
        select(*workers.c, attempts.c.job_id)
        .outerjoin(attempts, attempts.c.attempt_uid == workers.c.attempt_uid)
        .where(workers.c.worker_id > after)
        .order_by(workers.c.worker_id)
        .limit(limit)
    )
    if provider:
        query = query.where(workers.c.provider == provider)
    if not include_gone:
        query = query.where(workers.c.state.in_([int(state) for state in LIVE_STATES]))
    return tx.execute(query).mappings().all()


def unfinished_counts(tx: Transaction) -> dict[JobState, int]:
    """Return how many jobs are in each state that is not an end."""
    counted = {JobState(row.state): row.held for row in tx.execute(_COUNTS.group_by(jobs.c.state))}
    return {state: counted.get(state, 0) for state in UNFINISHED_STATES}


def oldest_queued(tx: Transaction) -> float:
    """Return how many seconds ago the oldest waiting job was submitted; 0 when none waits."""
    submitted_at = tx.connection.scalar(_OLDEST_QUEUED)
    return 0.0 if submitted_at is None else max(0.0, (tx.now - submitted_at) / 1e6)
