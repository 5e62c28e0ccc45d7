"""Dispatch: at once when something has happened, and every few seconds anyway."""

from __future__ import annotations

import asyncio

from hodei_server.db.database import Database
from hodei_server.db.job_queries import next_wake
from hodei_server.work.scheduler import Scheduler

#: Seconds between looks where nothing has called for one.
SWEEP_SECONDS = 5.0
#: No look follows another sooner: what comes together is given out together.
PAUSE_SECONDS = 0.001


async def dispatch_loop(scheduler: Scheduler, database: Database) -> None:
    """Give waiting jobs to workers."""
    while True:
        moves = {
            scheduler.wake.next_move(),
            scheduler.attempts.idle.next_move(),
            scheduler.fleet.room.next_move(),
        }
        given = await scheduler.dispatch()
        if given:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        timeout = SWEEP_SECONDS
        wake = await database.read(lambda tx: (next_wake(tx), tx.now))
        if wake[0] is not None:
            timeout = min(timeout, max((wake[0] - wake[1]) / 1e6, 0.01))
        await asyncio.wait(moves, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(PAUSE_SECONDS)
