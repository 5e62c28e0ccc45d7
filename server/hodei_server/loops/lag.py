"""Looks at how late the event loop is."""

from __future__ import annotations

import asyncio
import time

from hodei_server.instruments import LOOP_LAG

SECONDS = 0.5


async def lag_loop() -> None:
    """Time the event loop for as long as the server lives."""
    while True:
        due = time.monotonic() + SECONDS
        await asyncio.sleep(SECONDS)
        LOOP_LAG.observe(max(0.0, time.monotonic() - due))
