"""Dispatch: at once when something has happened, and every few seconds anyway."""

from __future__ import annotations

import asyncio

from hodei_server.db.database import Database
from hodei_server.db.job_queries import next_wake
from hodei_server.work.scheduler import BEHIND_SECONDS, MOST_GIVEN, Scheduler

#: Seconds between looks where nothing has called for one.
SWEEP_SECONDS = 5.0


async def dispatch_loop(scheduler: Scheduler, database: Database) -> None:
    """Give waiting jobs to workers."""
    moves = scheduler.attempts.moves
    while True:
        freed = {moves.idle.next_move(), scheduler.fleet.room.next_move()}
        submitted = scheduler.wake.next_move()
        timeout = SWEEP_SECONDS
        if await scheduler.dispatch() >= MOST_GIVEN:
            timeout = 0.0
        elif scheduler.behind:
            timeout = BEHIND_SECONDS
        if moves.delayed:
            moves.delayed = False
            wake, now = await database.read(lambda tx: (next_wake(tx), tx.now))
            if wake is not None:
                moves.delayed = True
                timeout = min(timeout, max((wake - now) / 1e6, 0.01))
        # Where nothing is free, a new job only waits with the others.
        awaited = freed if scheduler.full else {*freed, submitted}
        await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        # What comes in the same turn of the loop is given out together; and what comes during the write, after it.
        await asyncio.sleep(0)
