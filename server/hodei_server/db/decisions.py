"""What was decided of jobs: where they went and why, and why they waited."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.engine import RowMapping

from hodei_server.db.prepared import prepared
from hodei_server.db.schema import attempts, decisions, jobs
from hodei_server.db.transaction import Transaction

#: So many decisions of a job that found no place are kept, the newest: it may wait, and verdicts change, for ever.
MOST_WAITING = 20

_INSERT = prepared(insert(decisions))
_COLUMNS = (
    decisions.c.number,
    decisions.c.at,
    decisions.c.decision,
    attempts.c.created_at,
    attempts.c.started_at,
    attempts.c.ended_at,
    attempts.c.cost,
    jobs.c.spec,
)
_ALL = (
    select(*_COLUMNS)
    .join(jobs, jobs.c.job_id == decisions.c.job_id)
    .outerjoin(attempts, attempts.c.attempt_uid == decisions.c.attempt_uid)
)

_waiting = (decisions.c.job_id == bindparam("id")) & decisions.c.attempt_uid.is_(None)
_OLDEST_KEPT = (
    select(decisions.c.number)
    .where(_waiting)
    .order_by(decisions.c.number.desc())
    .offset(MOST_WAITING - 2)
    .limit(1)
    .scalar_subquery()
)
_DELETE_OLDER = prepared(delete(decisions).where(_waiting, decisions.c.number < _OLDEST_KEPT))


@dataclasses.dataclass(frozen=True, slots=True)
class NewDecision:
    """A decision to be written down.

    :param encoded: a `hodei.v1.Decision`.
    :param attempt_uid: that begins with it; None where the job waits on: older ones of that kind may go for it.
    """

    job_id: str
    tenant: str
    attempt_uid: str | None
    encoded: bytes


def insert_decisions(tx: Transaction, new: Sequence[NewDecision]) -> None:
    """Write decisions of several jobs down; their time is the transaction's."""
    waiting = [{"id": each.job_id} for each in new if each.attempt_uid is None]
    if waiting:
        tx.execute(_DELETE_OLDER, waiting)
    for each in new:
        row = {"job_id": each.job_id, "tenant": each.tenant, "attempt_uid": each.attempt_uid, "at": tx.now}
        tx.insert_later(_INSERT, row | {"decision": each.encoded})


def list_decisions(
    tx: Transaction, *, tenant: str = "", job_id: str = "", before: int | None = None, limit: int
) -> Sequence[RowMapping]:
    """Return decisions, the newest first, with their jobs' specs and what became of their attempts.

    :param tenant: whose; or `job_id`: of which job.
    :param before: the number of the last one of the page before.
    """
    query = _ALL.order_by(decisions.c.number.desc()).limit(limit)
    query = query.where(decisions.c.job_id == job_id) if job_id else query.where(decisions.c.tenant == tenant)
    if before is not None:
        query = query.where(decisions.c.number < before)
    return tx.execute(query).mappings().all()
