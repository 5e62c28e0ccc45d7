"""Workers: written down before they are launched, authenticated by hashes, gone once their removal is confirmed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei_server.db.database import Transaction
from hodei_server.db.schema import workers
from hodei_server.domain.ids import hash_token
from hodei_server.domain.workers import WorkerState


@dataclasses.dataclass(frozen=True, slots=True)
class NewWorker:
    """A worker to be launched. `resources` is an encoded `hodei.v1.Resources`."""

    worker_id: str
    provider: str
    tenant: str
    resources: bytes
    image: str
    max_jobs: int
    attempt_uid: str | None


def insert_worker(tx: Transaction, new: NewWorker) -> None:
    """Write a worker down as STARTING."""
    tx.execute(insert(workers), dataclasses.asdict(new) | {"state": int(WorkerState.STARTING), "created_at": tx.now})


def worker_row(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Return a worker's row."""
    return tx.execute(select(*workers.c).where(workers.c.worker_id == worker_id)).mappings().one_or_none()


def live_workers(tx: Transaction) -> Sequence[RowMapping]:
    """Return every worker whose removal is not confirmed."""
    return (
        tx.execute(select(*workers.c).where(workers.c.state != int(WorkerState.GONE)).order_by(workers.c.created_at))
        .mappings()
        .all()
    )


def counts_by_provider(tx: Transaction) -> dict[str, int]:
    """Return how many workers each provider holds, those that are starting or being removed included (W15, W44)."""
    rows = tx.execute(
        select(workers.c.provider, func.count().label("held"))
        .where(workers.c.state != int(WorkerState.GONE))
        .group_by(workers.c.provider)
    ).mappings()
    return {row["provider"]: row["held"] for row in rows}


def _update(tx: Transaction, worker_id: str, *conditions: Any, **values: Any) -> RowMapping | None:
    statement = update(workers).where(workers.c.worker_id == worker_id, *conditions).values(**values)
    return tx.execute(statement.returning(*workers.c)).mappings().one_or_none()


def take_worker(tx: Transaction, worker_id: str, attempt_uid: str) -> RowMapping | None:
    """Give an idle worker an attempt; None when it is not idle any more."""
    return _update(
        tx, worker_id, workers.c.state == int(WorkerState.IDLE), state=int(WorkerState.BUSY), attempt_uid=attempt_uid
    )


def set_otp(tx: Transaction, worker_id: str, otp: str, lifetime_micros: int) -> bool:
    """Keep the hash of a one-time token for a worker that has not registered."""
    row = _update(
        tx,
        worker_id,
        workers.c.state == int(WorkerState.STARTING),
        workers.c.session_hash.is_(None),
        workers.c.removal_reason.is_(None),
        otp_hash=hash_token(otp),
        otp_expires_at=tx.now + lifetime_micros,
    )
    return row is not None


def set_handle(tx: Transaction, worker_id: str, handle: Mapping[str, str]) -> None:
    """Keep what the provider needs to find the worker again."""
    _update(tx, worker_id, handle=json.dumps(dict(handle)))


def burn_otp(tx: Transaction, worker_id: str, otp: str, nonce: bytes, session_token: str) -> str | None:
    """Exchange a one-time token for a session, or give the same nonce the answer it was given before.

    :return: None when it was done; else why it is refused, in words that tell an attacker nothing.
    """
    row = worker_row(tx, worker_id)
    refused = "the one-time token is not valid for this worker"
    if row is None or row["otp_hash"] != hash_token(otp) or row["removal_reason"] is not None:
        return refused
    nonce_hash = hash_token(nonce.hex())
    if row["session_hash"] is not None and (row["nonce_hash"] != nonce_hash or row["hello_at"] is not None):
        return "the one-time token was used before"
    if row["session_hash"] is None and row["otp_expires_at"] < tx.now:
        return "the one-time token has expired"
    _update(
        tx,
        worker_id,
        session_hash=hash_token(session_token),
        nonce_hash=nonce_hash,
        registered_at=tx.now,
        last_seen_at=tx.now,
    )
    return None


def worker_of_session(tx: Transaction, session_token: str) -> RowMapping | None:
    """Return the worker that a session token belongs to, if the session has not ended."""
    return (
        tx.execute(
            select(*workers.c).where(
                workers.c.session_hash == hash_token(session_token),
                workers.c.state != int(WorkerState.GONE),
                workers.c.removal_reason.is_(None),
            )
        )
        .mappings()
        .one_or_none()
    )


def said_hello(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Note a worker's hello: it is ready (W33). The first one burns the nonce."""
    _update(
        tx,
        worker_id,
        workers.c.state == int(WorkerState.STARTING),
        workers.c.attempt_uid.is_(None),
        state=int(WorkerState.IDLE),
    )
    _update(
        tx,
        worker_id,
        workers.c.state == int(WorkerState.STARTING),
        workers.c.attempt_uid.is_not(None),
        state=int(WorkerState.BUSY),
    )
    return _update(tx, worker_id, hello_at=func.coalesce(workers.c.hello_at, tx.now), last_seen_at=tx.now)


def drain_worker(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Let a worker take no further job."""
    open_states = [int(WorkerState.STARTING), int(WorkerState.IDLE), int(WorkerState.BUSY)]
    _update(tx, worker_id, workers.c.state.in_(open_states), state=int(WorkerState.DRAINING))
    return worker_row(tx, worker_id)


def begin_removal(tx: Transaction, worker_id: str, reason: str) -> RowMapping | None:
    """Write down that a worker is to be removed, before it is: its session ends here.

    :return: its row; None when it is gone already.
    """
    return _update(
        tx,
        worker_id,
        workers.c.state != int(WorkerState.GONE),
        removal_reason=func.coalesce(workers.c.removal_reason, reason),
        state=int(WorkerState.DRAINING),
    )


def confirm_removal(tx: Transaction, worker_id: str) -> None:
    """Note that nothing of a worker is left."""
    _update(tx, worker_id, state=int(WorkerState.GONE), gone_at=tx.now)


def touch(tx: Transaction, worker_ids: Sequence[str]) -> None:
    """Note that workers were heard of."""
    if worker_ids:
        tx.execute(update(workers).where(workers.c.worker_id.in_(list(worker_ids))).values(last_seen_at=tx.now))
