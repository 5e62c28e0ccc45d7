"""The clocks of jobs: waiting in the queue, starting, running, being cancelled. Three clocks, never one (W05)."""

from __future__ import annotations

import asyncio
import time

import structlog

from hodei_server.db.attempts import active_attempts
from hodei_server.db.database import Database
from hodei_server.db.jobs import expire_queued
from hodei_server.domain.states import Cause, JobState
from hodei_server.loops.presence import Presence
from hodei_server.work.attempts import Attempts
from hodei_server.work.live import LiveAttempt
from hodei_server.work.sessions import Session, Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

SWEEP_SECONDS = 1.0


async def clock_loop(
    attempts: Attempts, sessions: Sessions, database: Database, presence: Presence, *, patience: float
) -> None:
    """End what has taken too long.

    :param patience: seconds that workers have to be heard once the server is there again: what has gone on for longer
        than that may have an end that was not told yet.
    """
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for row in await database.write(lambda tx: expire_queued(tx, attempts.settings.log_ttl_micros)):
            attempts.moves.changed.moved(row["job_id"])
        if len(attempts.live):
            await _sweep(attempts, sessions, database, presence, patience)


async def _sweep(
    attempts: Attempts, sessions: Sessions, database: Database, presence: Presence, patience: float
) -> None:
    rows, now = await database.read(lambda tx: (active_attempts(tx), tx.now))
    margin = int(attempts.settings.run_margin * 1e6)
    there = presence.seconds()
    for row in rows:
        live = attempts.live.by_uid(row["attempt_uid"])
        if live is None or live.result is not None:
            continue
        if row["cancel_requested_at"] is not None and live.cancel is None:
            attempts.cancel(row)  # the wish was stored, and the answer to its COMMIT was lost
        if there < patience and row["created_at"] < now - int(there * 1e6):
            continue
        if row["state"] == int(JobState.STARTING) and now > row["start_deadline"]:
            attempts.start_too_late(live)
        elif row["run_deadline"] is not None and now > row["run_deadline"]:
            # The worker should have ended it long ago. Where it can't say so, its lease decides: what was heard as the
            # server came back, it may have said before that, and be gone since.
            session = sessions.get(live.worker_id)
            if session is None or session.heard_at < presence.since() + attempts.settings.run_margin:
                continue
            if _log_held_up(live, session, attempts.settings.run_margin):
                continue
            attempts.lose_soon(
                live, Cause.RUN_TIMEOUT, "Ran longer than its run timeout, and its worker did not end it"
            )
        elif row["cancel_requested_at"] is not None and live.cancel is not None:
            grace = live.cancel.grace.ToMicroseconds()
            # A grace that was shortened runs from when it was, and not from the first wish.
            since_killed = time.monotonic() - live.killed_by
            if now > row["cancel_requested_at"] + grace + margin and since_killed > attempts.settings.run_margin:
                if _log_held_up(live, sessions.get(live.worker_id), attempts.settings.run_margin):
                    continue
                attempts.lose_soon(live, Cause.CANCELLED, "Cancelled; its worker did not confirm, and was removed")


def _log_held_up(live: LiveAttempt, session: Session | None, margin: float) -> bool:
    """Whether it may be the server that keeps a worker from telling of an end (L01).

    The log goes first, and while the server can't write that, as on a full disk, its worker keeps both. Once it can be
    written again the worker gets the margin to come back, and again from when it is connected. How a log failed once
    says nothing of it any more after that.
    """
    if not live.log.writable_since:
        return False
    back = live.log.writable_since + margin
    if session is None:
        return time.monotonic() < back
    return session.heard_at < max(live.log.writable_since, min(session.began_at, back)) + margin
