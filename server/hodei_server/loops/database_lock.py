"""Sees to it that this server has its database to itself."""

from __future__ import annotations

import asyncio

from hodei_server.database_lock import DatabaseLock

SECONDS = 2.0


async def database_lock_loop(lock: DatabaseLock) -> None:
    """Look every other second; where another server has the database this loop dies, and the server with it."""
    while True:
        await asyncio.sleep(SECONDS)
        await lock.check()
