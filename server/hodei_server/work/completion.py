"""The end of an attempt that has a result: its log made whole, or waited for long enough; then all is written down."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from sqlalchemy.engine import RowMapping

from hodei.checksum import decode_checksum
from hodei.v1 import worker_pb2 as wire
from hodei_server.db.attempts import LogEnd, finish, keep_result, release_worker
from hodei_server.db.database import Database
from hodei_server.db.segments import SegmentState
from hodei_server.db.transaction import Transaction
from hodei_server.domain.states import Cause, JobState, ended_as
from hodei_server.domain.workers import WorkerState
from hodei_server.instruments import ATTEMPTS_ENDED
from hodei_server.logs.book import LogBook
from hodei_server.logs.changes import wait_for
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import AttemptSettings, LiveAttempt, LiveAttempts, Moves
from hodei_server.work.results import printable, result_ack
from hodei_server.work.sessions import Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: A result that waits longer than this for the rest of its log is written down before.
RESULT_SECONDS = 0.05
#: The end of a job waits so long for the reason why its worker was asked to end.
WHY_SECONDS = 5.0


class Completion:
    """Ends attempts."""

    def __init__(
        self,
        database: Database,
        book: LogBook,
        sessions: Sessions,
        fleet: Fleet,
        *,
        settings: AttemptSettings,
        live: LiveAttempts,
        moves: Moves,
    ) -> None:
        self._database = database
        self._book = book
        self._sessions = sessions
        self._fleet = fleet
        self._settings = settings
        self._live = live
        self._moves = moves

    def begin(self, live: LiveAttempt, *, kept: bool) -> None:
        """Complete an attempt in the background.

        :param kept: whether its result is in the database.
        """
        self._fleet.start(self.complete(live, kept=kept), f"finish {live.attempt_uid}")

    async def complete(self, live: LiveAttempt, *, kept: bool) -> None:
        """End an attempt whose result is here, once its log is durable or has been waited for long enough.

        :param kept: see `begin`.
        """
        result = live.result
        assert result is not None  # noqa: S101 - the caller has just set it
        by_worker = result.epoch == live.epoch and bool(result.log_checksum)
        if not kept and by_worker and result.cause == int(Cause.EVICTED):
            await self._tell_why(live, result)
        if not kept and not await self._log_within(live, result, RESULT_SECONDS):
            start = live.take_start()
            await self._database.persist(lambda tx: (start(tx), keep_result(tx, result)))
            self._moves.changed.moved(live.job_id)
            kept = True
        await self._wait_for_log(live, result)
        log = live.log
        await log.close()
        figures = log.segment.segment(live.attempt_uid, SegmentState.CLOSED)
        complete = log.durable == result.next_sequence
        lie = ""
        if by_worker and complete:
            complete = log.checksum == decode_checksum(result.log_checksum)
            if not complete:
                # The outcome stands, and the log is told not to be what it was; but the worker gets nothing more.
                lie = f"the log of attempt {live.attempt_uid} is not the one that its checksum was made of"
        elif not by_worker:
            # What a worker that is lost had still to say nobody knows, not even whether it had begun.
            complete = not (live.started or live.may_have_run)
        end = LogEnd(next_sequence=log.durable, complete=complete, open_segment=figures)
        start, prices = live.take_start(), self._settings.prices.get(live.provider)
        log_ttl = self._settings.log_ttl_micros(live.spec.tenant or "default")

        def write(tx: Transaction) -> tuple[RowMapping | None, RowMapping | None]:
            start(tx)
            if not kept:
                keep_result(tx, result)
            job = finish(tx, live.attempt_uid, end, log_ttl, prices)
            return job, release_worker(tx, live.worker_id, live.attempt_uid)

        job, worker = await self._database.persist(write)
        self._live.remove(live)
        self._book.forget(live.attempt_uid)
        session = self._sessions.get(live.worker_id)
        if session is not None:
            session.send(result_ack(result))
        if lie:
            self._sessions.refused("protocol", lie, worker_id=live.worker_id)
            if session is not None:
                session.end(lie)
            self._fleet.remove_soon(live.worker_id, lie, leave_time=True)
        if job is not None:
            cause = Cause(result.cause)
            outcome = ended_as(cause, result.exit_code if result.HasField("exit_code") else None)
            ATTEMPTS_ENDED.labels(live.provider, outcome.name.lower(), cause.name.lower()).inc()
            _log.info("attempt.ended", **live.names, reason=job["reason"])
            self._moves.delayed = self._moves.delayed or job["state"] == int(JobState.QUEUED)
        self._moves.changed.moved(live.job_id)
        if worker is not None and worker["state"] == int(WorkerState.DRAINING):
            self._fleet.remove_soon(live.worker_id, "Has done its work", leave_time=True)
        self._moves.idle.moved()

    async def _tell_why(self, live: LiveAttempt, result: wire.AttemptResult) -> None:
        """Add what the provider knows of who has asked a worker to end: the worker itself does not know."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHY_SECONDS):
                why = await self._fleet.why_ending(live.worker_id, live.provider)
                result.message = printable(f"{result.message}: {why}")

    @staticmethod
    async def _log_within(live: LiveAttempt, result: wire.AttemptResult, seconds: float) -> bool:
        """Wait for the rest of a log; return whether it came in time."""
        deadline = time.monotonic() + seconds
        while live.log.durable < result.next_sequence:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await wait_for(live.log.change.next_move(), remaining)
        return True

    async def _wait_for_log(self, live: LiveAttempt, result: wire.AttemptResult) -> None:
        if live.log.durable >= result.next_sequence:
            return
        deadline = time.monotonic() + self._settings.log_wait
        gone = asyncio.ensure_future(live.worker_gone.wait())
        try:
            while live.log.durable < result.next_sequence:
                remaining = deadline - time.monotonic()
                # Of a worker that is gone nothing more comes than has come.
                if remaining <= 0 or (gone.done() and live.log.durable == live.log.accepted):
                    _log.error("log.incomplete", **live.names, durable=live.log.durable)
                    return
                waiting = {live.log.change.next_move(), *(() if gone.done() else (gone,))}
                await asyncio.wait(waiting, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
