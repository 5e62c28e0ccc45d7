"""Workers: written down before they are launched, authenticated by hashes, gone once their removal is confirmed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Update, bindparam, case, func, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei_server.db.batches import Batch
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import workers
from hodei_server.db.transaction import Transaction, one_of
from hodei_server.domain.ids import hash_token
from hodei_server.domain.workers import LIVE_STATES, WorkerState


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


def _update(*conditions: ColumnElement[bool], **values: Any) -> Update:
    """Return the statement that changes one worker; its bound parameters are ``id`` and those of `values`."""
    return update(workers).where(workers.c.worker_id == bindparam("id"), *conditions).values(**values)


def _run(tx: Transaction, statement: Update, worker_id: str, **parameters: Any) -> RowMapping | None:
    return tx.execute(statement, {"id": worker_id, **parameters}).mappings().one_or_none()


_state, _attempt = workers.c.state, workers.c.attempt_uid
#: Not "all but GONE": these are found by the index, however many are gone.
_THERE = one_of(_state, LIVE_STATES)
_INSERT = prepared(insert(workers))
_GIVEN = [field.name for field in dataclasses.fields(NewWorker)]
_BY_ID = select(*workers.c).where(workers.c.worker_id == bindparam("id"))
_LIVE = select(*workers.c).where(_THERE).order_by(workers.c.created_at)
_COUNTS = select(workers.c.provider, func.count().label("held")).where(_THERE).group_by(workers.c.provider)
_STATES = (
    select(workers.c.provider, workers.c.state, func.count().label("held"))
    .where(_THERE)
    .group_by(workers.c.provider, workers.c.state)
)
_GROUPS = prepared(
    select(
        workers.c.provider,
        workers.c.tenant,
        workers.c.resources,
        workers.c.attempt_uid.is_not(None).label("busy"),
        func.count().label("count"),
    )
    .where(_THERE)
    .group_by(workers.c.provider, workers.c.tenant, workers.c.resources, workers.c.attempt_uid.is_not(None))
)
_STARTS = (
    select(workers.c.provider, workers.c.image, (workers.c.hello_at - workers.c.created_at).label("took"))
    .where(workers.c.hello_at.is_not(None))
    .order_by(workers.c.created_at.desc())
    .limit(1000)
)
_IDLE = prepared(
    select(workers.c.worker_id, workers.c.provider, workers.c.tenant, workers.c.image, workers.c.resources)
    .where(_state == int(WorkerState.IDLE))
    .order_by(workers.c.created_at, workers.c.worker_id)
)
_UNBOUND = select(
    workers.c.worker_id,
    workers.c.provider,
    workers.c.image,
    workers.c.resources,
    workers.c.state,
    workers.c.created_at,
).where(
    one_of(_state, (WorkerState.STARTING, WorkerState.IDLE)),
    _attempt.is_(None),
    workers.c.tenant == "",
    workers.c.removal_reason.is_(None),
)
_TAKE = Batch(
    workers,
    ("worker_id", "attempt_uid", "tenant"),
    lambda given: (
        update(workers)
        .where(workers.c.worker_id == given["worker_id"], _state == int(WorkerState.IDLE))
        .values(state=int(WorkerState.BUSY), attempt_uid=given["attempt_uid"], tenant=given["tenant"])
        .returning(workers.c.worker_id)
    ),
)
_GIVE_BACK = _update(
    _attempt == bindparam("of_attempt"),
    _state == int(WorkerState.BUSY),
    state=int(WorkerState.IDLE),
    attempt_uid=None,
    # Every attempt that began is counted as its worker is freed of it, that which a worker was launched for among them.
    tenant=case((workers.c.jobs_done == 0, ""), else_=workers.c.tenant),
)
_SET_OTP = _update(
    _state == int(WorkerState.STARTING),
    workers.c.session_hash.is_(None),
    workers.c.removal_reason.is_(None),
    otp_hash=bindparam("to_otp_hash"),
    otp_expires_at=bindparam("to_otp_expires_at"),
).returning(workers.c.worker_id)
_SET_HANDLE = _update(handle=bindparam("to_handle"))
_BURN_OTP = _update(
    session_hash=bindparam("to_session_hash"),
    nonce_hash=bindparam("to_nonce_hash"),
    registered_at=bindparam("now"),
    last_seen_at=bindparam("now"),
)
_OF_SESSION = select(*workers.c).where(
    workers.c.session_hash == bindparam("session"), _THERE, workers.c.removal_reason.is_(None)
)
_READY = (
    _update(_state == int(WorkerState.STARTING), _attempt.is_(None), state=int(WorkerState.IDLE)),
    _update(_state == int(WorkerState.STARTING), _attempt.is_not(None), state=int(WorkerState.BUSY)),
)
_HELLO = _update(hello_at=func.coalesce(workers.c.hello_at, bindparam("now")), last_seen_at=bindparam("now")).returning(
    *workers.c
)
_DRAIN = _update(
    one_of(_state, (WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY)),
    state=int(WorkerState.DRAINING),
)
_BEGIN_REMOVAL = _update(
    _THERE,
    removal_reason=func.coalesce(workers.c.removal_reason, bindparam("reason")),
    state=int(WorkerState.DRAINING),
).returning(*workers.c)
_BEGIN_IDLE_REMOVAL = _BEGIN_REMOVAL.where(_attempt.is_(None))
_CONFIRM_REMOVAL = _update(state=int(WorkerState.GONE), gone_at=bindparam("now"))


def insert_workers(tx: Transaction, new: Sequence[NewWorker]) -> None:
    """Write workers down as STARTING."""
    common = {"state": int(WorkerState.STARTING), "created_at": tx.now}
    if new:
        tx.execute(_INSERT, [common | {name: getattr(each, name) for name in _GIVEN} for each in new])


def worker_row(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Return a worker's row."""
    return tx.execute(_BY_ID, {"id": worker_id}).mappings().one_or_none()


def live_workers(tx: Transaction) -> Sequence[RowMapping]:
    """Return every worker whose removal is not confirmed."""
    return tx.execute(_LIVE).mappings().all()


def idle_workers(tx: Transaction) -> Sequence[RowMapping]:
    """Return the workers that wait for a job, the oldest first, with what decides for whom they are."""
    return tx.execute(_IDLE).mappings().all()


def unbound_workers(tx: Transaction) -> Sequence[RowMapping]:
    """Return the workers that are for any tenant's job: those that wait, and those that are starting."""
    return tx.execute(_UNBOUND).mappings().all()


def counts_by_provider(tx: Transaction) -> dict[str, int]:
    """Return how many workers each provider holds, those that are starting or being removed included (W15, W44)."""
    return {row.provider: row.held for row in tx.execute(_COUNTS)}


def counts_by_state(tx: Transaction) -> dict[tuple[str, WorkerState], int]:
    """Return how many workers each provider holds in each state."""
    return {(row.provider, WorkerState(row.state)): row.held for row in tx.execute(_STATES)}


def worker_groups(tx: Transaction) -> Sequence[RowMapping]:
    """Return how many workers there are (W15, W44) by provider, tenant, resources and whether they have an attempt."""
    return tx.execute(_GROUPS).mappings().all()


def recent_starts(tx: Transaction) -> Sequence[RowMapping]:
    """Return how long the newest thousand workers took from being written down to their hello, the oldest first."""
    return list(reversed(tx.execute(_STARTS).mappings().all()))


def take_workers(tx: Transaction, taken: Sequence[tuple[str, str, str]]) -> frozenset[str]:
    """Give idle workers an attempt each, and bind them to the jobs' tenants for good, but see `give_back`.

    :param taken: the worker, the attempt, the tenant; each worker once.
    :return: the workers that were idle yet: the others are left as they are.
    """
    rows = _TAKE.run(tx, [dict(zip(("worker_id", "attempt_uid", "tenant"), each, strict=True)) for each in taken])
    return frozenset(row["worker_id"] for row in rows)


def give_back(tx: Transaction, worker_id: str, attempt_uid: str) -> None:
    """Free a worker of an attempt that it was taken for in this transaction and that does not begin.

    A worker that has had no attempt before is for any tenant's job again, as it was; one that has had any stays bound.
    """
    tx.execute(_GIVE_BACK, {"id": worker_id, "of_attempt": attempt_uid})


def set_otp(tx: Transaction, worker_id: str, otp: str, lifetime_micros: int) -> bool:
    """Keep the hash of a one-time token for a worker that has not registered."""
    row = _run(tx, _SET_OTP, worker_id, to_otp_hash=hash_token(otp), to_otp_expires_at=tx.now + lifetime_micros)
    return row is not None


def set_handle(tx: Transaction, worker_id: str, handle: Mapping[str, str]) -> None:
    """Keep what the provider needs to find the worker again."""
    tx.execute(_SET_HANDLE, {"id": worker_id, "to_handle": json.dumps(dict(handle))})


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
    bound = {"to_session_hash": hash_token(session_token), "to_nonce_hash": nonce_hash, "now": tx.now}
    tx.execute(_BURN_OTP, {"id": worker_id, **bound})
    return None


def worker_of_session(tx: Transaction, session_token: str) -> RowMapping | None:
    """Return the worker that a session token belongs to, if the session has not ended."""
    return tx.execute(_OF_SESSION, {"session": hash_token(session_token)}).mappings().one_or_none()


def said_hello(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Note a worker's hello: it is ready (W33). The first one burns the nonce."""
    for statement in _READY:
        tx.execute(statement, {"id": worker_id})
    return _run(tx, _HELLO, worker_id, now=tx.now)


def drain_worker(tx: Transaction, worker_id: str) -> RowMapping | None:
    """Let a worker take no further job."""
    tx.execute(_DRAIN, {"id": worker_id})
    return worker_row(tx, worker_id)


def begin_removal(tx: Transaction, worker_id: str, reason: str, *, idle: bool = False) -> RowMapping | None:
    """Write down that a worker is to be removed, before it is: its session ends here.

    :param idle: only if it has no attempt: it may have been given one since it was looked at.
    :return: its row; None when it is gone already, or has one.
    """
    return _run(tx, _BEGIN_IDLE_REMOVAL if idle else _BEGIN_REMOVAL, worker_id, reason=reason)


def confirm_removal(tx: Transaction, worker_id: str) -> None:
    """Note that nothing of a worker is left."""
    tx.execute(_CONFIRM_REMOVAL, {"id": worker_id, "now": tx.now})


def touch(tx: Transaction, worker_ids: Sequence[str]) -> None:
    """Note that workers were heard of."""
    if worker_ids:
        tx.execute(update(workers).where(workers.c.worker_id.in_(list(worker_ids))).values(last_seen_at=tx.now))
