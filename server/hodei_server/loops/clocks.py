"""The clocks of jobs: waiting in the queue, starting, running, being cancelled. Three clocks, never one (W05)."""

from __future__ import annotations

import asyncio

import structlog

from hodei_server.db.attempts import active_attempts
from hodei_server.db.database import Database
from hodei_server.db.jobs import expire_queued
from hodei_server.domain.states import Cause, JobState
from hodei_server.work.attempts import Attempts

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEEP_SECONDS = 1.0


async def clock_loop(attempts: Attempts, database: Database) -> None:
    """End what has taken too long."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for row in await database.write(expire_queued):
            attempts.changed.moved(row["job_id"])
        if len(attempts.live):
            await _sweep(attempts, database)


async def _sweep(attempts: Attempts, database: Database) -> None:
    rows, now = await database.read(lambda tx: (active_attempts(tx), tx.now))
    margin = int(attempts.settings.run_margin * 1e6)
    for row in rows:
        live = attempts.live.by_uid(row["attempt_uid"])
        if live is None or live.result is not None:
            continue
        if row["state"] == int(JobState.STARTING) and now > row["start_deadline"]:
            attempts.start_too_late(live)
        elif row["run_deadline"] is not None and now > row["run_deadline"]:
            # The worker should have ended it long ago.
            attempts.lose_soon(
                live, Cause.RUN_TIMEOUT, "Ran longer than its run timeout, and its worker did not end it"
            )
        elif row["cancel_requested_at"] is not None and live.cancel is not None:
            grace = live.cancel.grace.ToMicroseconds()
            if now > row["cancel_requested_at"] + grace + margin:
                attempts.lose_soon(live, Cause.CANCELLED, "Cancelled; its worker did not confirm, and was removed")
