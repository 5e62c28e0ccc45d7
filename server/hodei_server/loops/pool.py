"""Keeps warm workers waiting."""

from __future__ import annotations

import asyncio

from hodei_server.work.pools import Pools
from hodei_server.work.scheduler import Scheduler

#: Seconds between looks where nothing has called for one.
SWEEP_SECONDS = 1.0
#: What is taken together is replaced together.
PAUSE_SECONDS = 0.02


async def pool_loop(pools: Pools, scheduler: Scheduler) -> None:
    """Fill the pools whenever workers were taken or have gone."""
    while True:
        moves = {scheduler.taken.next_move(), scheduler.fleet.room.next_move()}
        await pools.fill()
        await asyncio.wait(moves, timeout=SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(PAUSE_SECONDS)
