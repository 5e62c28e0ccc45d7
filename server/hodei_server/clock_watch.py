"""Whether logs and jobs may expire by the clock as it is: not where it was moved and nobody has confirmed it."""

from __future__ import annotations

from pathlib import Path

import structlog

from hodei.clock import clock_moved_seconds
from hodei_server.db.clock import TOLERANCE_MICROS, clock_moved, settle_clock
from hodei_server.db.database import Database
from hodei_server.db.transaction import clock_offset

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockWatch:
    """Knows by how much the clock that rows go by was moved, while this server runs and before."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boot_id = BOOT_ID.read_text().strip()

    async def settle(self) -> None:
        """Take over from the server before; before any row is judged."""
        step = await self._database.write(lambda tx: settle_clock(tx, self._boot_id, self._database.offset))
        if step:
            _log.error(
                "clock.moved",
                message="the clock was moved while no server ran: deadlines of what is under way were moved with it",
                seconds=round(step / 1e6),
            )

    async def moved_seconds(self) -> float:
        """Return by how much the clock was moved; 0 where logs and jobs may go by it."""
        here = clock_moved_seconds()
        if abs(here) * 1e6 > TOLERANCE_MICROS:
            return here
        offset = await self._database.read(lambda tx: clock_offset(tx.connection))
        return await self._database.write(lambda tx: clock_moved(tx, self._boot_id, offset)) / 1e6
