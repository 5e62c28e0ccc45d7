"""What a starting server does about what the one before has left: adopt, go on with, launch again, remove."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.engine import RowMapping

from hodei_providers.contract import Handle, ProviderError, WorkerPhase
from hodei_server.clock_watch import ClockWatch
from hodei_server.db.attempts import active_attempts
from hodei_server.db.database import Database
from hodei_server.db.providers import provider_states
from hodei_server.db.workers import live_workers, recent_starts
from hodei_server.domain.states import Cause
from hodei_server.installation import Installation
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet
from hodei_server.work.losses import cause_of_loss
from hodei_server.work.scheduler import Scheduler

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds between attempts to rid a restored installation of the workers it does not know.
STRAY_RETRY_SECONDS = 1.0


async def recover(
    database: Database, attempts: Attempts, fleet: Fleet, scheduler: Scheduler, installation: Installation
) -> None:
    """Bring memory and the world in line with the database; before anybody is let in."""
    await ClockWatch(database).settle()
    await _remember(database, scheduler)
    rows = await database.read(active_attempts)
    for row in rows:
        await attempts.adopt(row)
    workers = await database.read(live_workers)
    known = {row["worker_id"] for row in workers}
    if rows or workers:
        _log.info("recovery", attempts=len(rows), workers=len(workers))
    for row in workers:
        worker_id = row["worker_id"]
        if row["removal_reason"] is not None:
            fleet.remove_soon(worker_id, row["removal_reason"])
            continue
        if row["session_hash"] is not None:
            continue  # it connects again by itself; its lease runs from now
        await _go_on(row, attempts, fleet, scheduler)
    for live in attempts.live:
        if live.worker_id in known:
            continue
        live.worker_gone.set()
        attempts.lose_soon(live, Cause.WORKER_LOST, "The worker was removed")
    if installation.restored:
        for name in fleet.providers:
            # Workers that a restored database does not know may be running its jobs: those must not run beside them.
            # Other strays have time; see `hodei_server.loops.strays`.
            while not await _remove_strays(name, fleet, known, installation.installation_id):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(STRAY_RETRY_SECONDS)


async def _go_on(worker: RowMapping, attempts: Attempts, fleet: Fleet, scheduler: Scheduler) -> None:
    """Go on with a worker that has never registered, and with its attempt."""
    worker_id = worker["worker_id"]
    live = attempts.live.of_worker(worker_id)
    if live is not None and live.cancel is not None:
        attempts.lose_cancelled(live)
        return
    description = await fleet.describe(worker_id, worker["provider"])
    if description.phase in {WorkerPhase.PENDING, WorkerPhase.RUNNING}:
        return  # it was launched and will register with the token it has
    if live is None:
        fleet.remove_soon(worker_id, "Was never launched")
    elif description.phase is WorkerPhase.MISSING:
        scheduler.launch(live)
    else:
        cause = cause_of_loss(description, started=live.started)
        attempts.lose_soon(live, cause, f"The worker is gone: {description.message}")


async def _remember(database: Database, scheduler: Scheduler) -> None:
    """Take what the server before knew of providers: what operators said, and how long starts took."""
    states, starts = await database.read(lambda tx: (provider_states(tx), recent_starts(tx)))
    scheduler.states.update(states)
    scheduler.fleet.remember(starts)


async def _remove_strays(name: str, fleet: Fleet, known: set[str], installation_id: str) -> bool:
    """Remove this installation's workers that the database does not know (W11); nobody else's (W12).

    :return: whether all of them are gone.
    """
    provider, all_gone = fleet.providers[name], True
    try:
        handles: list[Handle] = list(await provider.list(installation_id))
        for handle in handles:
            if handle.worker_id not in known:
                _log.warning("worker.stray_removed", worker_id=handle.worker_id, provider=name)
                all_gone = await provider.destroy(handle) and all_gone
    except ProviderError as error:
        _log.warning("provider.unavailable", provider=name, error=str(error))
        return False
    return all_gone
