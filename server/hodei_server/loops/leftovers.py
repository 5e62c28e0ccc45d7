"""Logs on this server's disk of attempts that the database has never heard of: removed, after a grace (L20).

A database that was restored from an older copy knows nothing of what was begun since. The logs of that stay for a
while: the copy may have been the wrong one. The time is counted by a clock that nobody sets, and anew by each server:
not by the files' times (L21).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import structlog
from sqlalchemy import select

from hodei_logstore.contract import LogStore, SegmentKey
from hodei_server.db.database import Database
from hodei_server.db.schema import attempts, installation
from hodei_server.db.transaction import Transaction

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Segments that are looked at together, and seconds of rest behind them.
PAGE = 2000
REST = 1.0
#: Seconds from one look at everything to the next, at most.
BETWEEN = 3600.0


class Leftovers:
    """Remembers since when each log was not known.

    :param disk: where this server's segments are.
    :param installation_id: nothing is removed while the database has another.
    :param grace: seconds.
    """

    def __init__(self, disk: LogStore, database: Database, installation_id: str, grace: float) -> None:
        self._disk = disk
        self._database = database
        self._installation_id = installation_id
        self._grace = grace
        self._since: dict[str, float] = {}

    async def sweep(self) -> int:
        """Look at every segment once; return how many are gone for it."""
        removed, seen, after = 0, dict[str, float](), None
        while page := await self._disk.segments(after, PAGE):
            after = page[-1]
            # Asked after: what is begun in between is known, as an attempt's row is there before its log is.
            unknown = await self._unknown({key.attempt_uid for key in page})
            now = time.monotonic()
            seen |= {uid: self._since.get(uid, now) for uid in unknown}
            gone = [key for key in page if now - seen.get(key.attempt_uid, now) >= self._grace]
            removed += await self._remove(gone)
            await asyncio.sleep(REST if len(page) == PAGE else 0)
        self._since = seen
        return removed

    async def _unknown(self, uids: Collection[str]) -> set[str]:
        def look(tx: Transaction) -> set[str]:
            if tx.execute(select(installation.c.installation_id)).scalar() != self._installation_id:
                return set()
            query = select(attempts.c.attempt_uid).where(attempts.c.attempt_uid.in_(sorted(uids)))
            return set(uids) - set(tx.execute(query).scalars())

        return await self._database.read(look)

    async def _remove(self, keys: list[SegmentKey]) -> int:
        if keys:
            size = await self._disk.stored_bytes(keys)
            await self._disk.remove(keys)
            _log.warning("log.leftovers_removed", segments=len(keys), bytes=size)
        return len(keys)


async def leftover_loop(leftovers: Leftovers, grace: float) -> None:
    """Sweep from time to time."""
    while True:
        await leftovers.sweep()
        await asyncio.sleep(max(min(grace / 4, BETWEEN), 0.1))
