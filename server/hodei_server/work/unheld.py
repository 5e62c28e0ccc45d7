"""Attempts that are written down and that nobody holds: the answer to their COMMIT was lost."""

from __future__ import annotations

import structlog

from hodei_server.db.attempts import active_attempts, active_uids
from hodei_server.db.database import Database
from hodei_server.db.workers import worker_row
from hodei_server.domain.states import Cause
from hodei_server.domain.workers import WorkerState
from hodei_server.instruments import QUEUE_WAIT
from hodei_server.work.attempts import Attempts
from hodei_server.work.giving import seconds_waited
from hodei_server.work.scheduler import Scheduler

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def hold_unheld(database: Database, attempts: Attempts, scheduler: Scheduler) -> None:
    """Go on with such attempts: launch or tell their workers, or end those that were cancelled meanwhile.

    All that this server once held is held until its end is written down. So one that is not held, while nothing is
    being given out, was never given to its worker.
    """
    if all(attempts.live.by_uid(uid) is not None for uid in await database.read(active_uids)):
        return
    async with scheduler.giving:
        # Before it is asked what there is: what ends while that is read was held then.
        held = {live.attempt_uid for live in attempts.live}
        for row in await database.read(active_attempts):
            if row["attempt_uid"] in held:
                continue
            worker = await database.read(lambda tx, worker_id=row["worker_id"]: worker_row(tx, worker_id))  # type: ignore[misc]
            live = await attempts.adopt(row)
            QUEUE_WAIT.observe(seconds_waited(row, row["created_at"]))
            _log.warning("attempt.found", **live.names, worker_id=live.worker_id)
            attempts.moves.changed.moved(live.job_id)
            if live.result is not None:
                continue
            if worker is None or worker["state"] == int(WorkerState.GONE):
                live.worker_gone.set()
                attempts.lose_soon(live, Cause.WORKER_LOST, "The worker was removed")
            elif live.cancel is not None:
                attempts.lose_cancelled(live)
            elif worker["removal_reason"] is None:
                scheduler.hand_over(live, worker["tenant"], launch=worker["session_hash"] is None)
            # The leases give up what belongs to a worker that is being removed.
