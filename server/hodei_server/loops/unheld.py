"""Looks for attempts that are written down and that nobody holds."""

from __future__ import annotations

import asyncio

from hodei_server.db.database import Database
from hodei_server.work.attempts import Attempts
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.unheld import hold_unheld

SWEEP_SECONDS = 1.0


async def unheld_loop(database: Database, attempts: Attempts, scheduler: Scheduler) -> None:
    """Look every second."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await hold_unheld(database, attempts, scheduler)
