"""Asks providers how they are."""

from __future__ import annotations

import asyncio

from hodei_server.work.fleet import Fleet

SECONDS = 10.0


async def health_loop(fleet: Fleet) -> None:
    """Keep what is known of the providers' health fresh."""
    while True:
        await fleet.check_health()
        await asyncio.sleep(SECONDS)
