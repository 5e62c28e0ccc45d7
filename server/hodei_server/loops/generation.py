"""Keeps copies of the database apart: one that is restored is recognised by its generation."""

from __future__ import annotations

import asyncio

from hodei_server.installation import Installation

SECONDS = 60.0


async def generation_loop(installation: Installation) -> None:
    """Begin a new generation every minute."""
    while True:
        await asyncio.sleep(SECONDS)
        await installation.next_generation()
