"""The values of jobs' secrets, encrypted, from submission to the job's end."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.engine import RowMapping

from hodei_server.db.schema import job_secrets, jobs
from hodei_server.db.transaction import Transaction

_INSERT = insert(job_secrets)
_OF_JOB = select(job_secrets.c.key_id, job_secrets.c.data).where(job_secrets.c.job_id == bindparam("of_job_id"))
#: How SQLite was built decides what it does where nothing is said.
_OVERWRITES = ("OFF", "ON", "FAST")
_ERASE = delete(job_secrets).where(job_secrets.c.job_id == bindparam("of_job_id"))


def keep_secrets(tx: Transaction, job_id: str, key_id: bytes, data: bytes) -> None:
    """Keep what a job's values were encrypted to."""
    tx.execute(_INSERT, {"job_id": job_id, "key_id": key_id, "data": data})


def kept_secrets(tx: Transaction, job_id: str) -> RowMapping | None:
    """Return what is kept of a job's values."""
    return tx.execute(_OF_JOB, {"of_job_id": job_id}).mappings().one_or_none()


def erase_secrets(tx: Transaction, job_id: str) -> None:
    """Remove what is kept of a job's values; SQLite overwrites it in its file."""
    if tx.connection.dialect.name != "sqlite":
        tx.execute(_ERASE, {"of_job_id": job_id})
        return
    before = _OVERWRITES[tx.connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()]
    tx.connection.exec_driver_sql("PRAGMA secure_delete=ON").close()
    tx.execute(_ERASE, {"of_job_id": job_id})
    tx.connection.exec_driver_sql(f"PRAGMA secure_delete={before}").close()


def erase_ended(tx: Transaction, limit: int) -> int:
    """Remove what is left of jobs that have ended, which their ends should have removed; return of how many."""
    # From the few that have secrets to their jobs, one by one: the other way round all jobs are read.
    ended_at = select(jobs.c.ended_at).where(jobs.c.job_id == job_secrets.c.job_id).scalar_subquery()
    ended = select(job_secrets.c.job_id).distinct()
    found = list(tx.execute(ended.where(ended_at.is_not(None)).limit(limit)).scalars())
    for job_id in found:
        erase_secrets(tx, job_id)
    return len(found)


def kept_under_others(tx: Transaction, key_ids: Sequence[bytes]) -> int:
    """Return how many jobs that have not ended have values that are kept under none of these keys."""
    kept = select(func.count()).select_from(job_secrets.join(jobs, jobs.c.job_id == job_secrets.c.job_id))
    others = kept.where(job_secrets.c.key_id.not_in(list(key_ids)), jobs.c.ended_at.is_(None))
    return int(tx.execute(others).scalar_one())
