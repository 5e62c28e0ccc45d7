"""What happens to an attempt from its assignment to its end, whoever says so: its worker, a user, a clock, a provider.

Each step is written down by one conditional transaction first and acted on afterwards, so a step that comes late, or
twice, changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from sqlalchemy.engine import RowMapping

from hodei.checksum import decode_checksum
from hodei.clock import steady_time_ns
from hodei.v1 import log_pb2 as log_wire
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_logstore.block import make_block, parse_block
from hodei_providers.contract import ExitReason, WorkerPhase
from hodei_server.db.attempts import LogEnd, attempt_started, finish, keep_result, release_worker
from hodei_server.db.database import Database, DatabaseUnavailableError, Transaction
from hodei_server.db.jobs import duration_micros
from hodei_server.db.segments import SegmentState
from hodei_server.domain.prices import Prices
from hodei_server.domain.states import Cause, JobState, ended_as
from hodei_server.domain.workers import WorkerState
from hodei_server.logs.book import LogBook
from hodei_server.logs.changes import Change, ChangesByKey, wait_for
from hodei_server.metrics.instruments import ATTEMPTS_ENDED
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import LiveAttempt, LiveAttempts
from hodei_server.work.results import printable, result_ack, same_outcome, wrong_in
from hodei_server.work.sessions import Session, Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

#: What ends an attempt whose worker a provider knows to be gone, or not to come.
CAUSES = {
    ExitReason.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    ExitReason.EVICTED: Cause.EVICTED,
    ExitReason.IMAGE: Cause.IMAGE,
    ExitReason.UNSCHEDULABLE: Cause.UNSCHEDULABLE,
    ExitReason.DEADLINE: Cause.RUN_TIMEOUT,
}
#: Seconds between attempts to write to a database that can't be written.
PERSIST_RETRY_SECONDS = 1.0
#: A process's start is written down after so many seconds, or with its end where that comes sooner.
START_SECONDS = 0.005
#: A result that waits longer than this for the rest of its log is written down before.
RESULT_SECONDS = 0.05


class ProtocolViolationError(Exception):
    """A worker said what it can't have to say; its session ends with this as the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptSettings:
    """Bounds, in seconds and bytes.

    :param log_wait: how long an ended attempt waits for the rest of its log.
    :param run_margin: what the server gives a worker beyond run timeout and grace.
    :param prices: of each provider.
    """

    default_grace: float
    run_margin: float
    log_wait: float
    log_budget: int
    log_ttl: float
    log_ttl_of_tenants: Mapping[str, float]
    prices: Mapping[str, Prices] = dataclasses.field(default_factory=dict)


class Attempts:
    """Moves attempts on.

    :ivar changed: moves for a job id at each of its moves.
    :ivar idle: moves when a worker is free, or a job waits again.
    :ivar delayed: jobs may wait that are not to be given out before a time.
    """

    def __init__(
        self,
        database: Database,
        book: LogBook,
        sessions: Sessions,
        fleet: Fleet,
        settings: AttemptSettings,
    ) -> None:
        self.live = LiveAttempts()
        self.changed = ChangesByKey()
        self.idle = Change()
        self.delayed = True
        self.settings = settings
        self._database = database
        self._book = book
        self._sessions = sessions
        self._fleet = fleet

    # Assigned

    def begin(self, row: RowMapping, attempt_uid: str, provider: str, worker_id: str) -> LiveAttempt:
        """Hold an attempt that was just written down; tell its worker, if that is connected."""
        spec = types_wire.JobSpec.FromString(row["spec"])
        log = self._book.open_new(attempt_uid, epoch=1, budget=self.budget(spec))
        live = LiveAttempt(
            job_id=row["job_id"],
            attempt_uid=attempt_uid,
            number=row["attempt_number"],
            provider=provider,
            worker_id=worker_id,
            spec=spec,
            epoch=1,
            traceparent=row["traceparent"],
            log=log,
        )
        self.hold(live)
        _log.info("attempt.assigned", **live.names, worker_id=worker_id)
        self.changed.moved(live.job_id)
        return live

    async def adopt(self, row: RowMapping) -> LiveAttempt:
        """Hold an attempt that was not over when the server ended."""
        spec = types_wire.JobSpec.FromString(row["spec"])
        log = await self._book.reopen(row["attempt_uid"], epoch=row["epoch"], budget=self.budget(spec))
        live = LiveAttempt(
            job_id=row["job_id"],
            attempt_uid=row["attempt_uid"],
            number=row["number"],
            provider=row["provider"],
            worker_id=row["worker_id"],
            spec=spec,
            epoch=row["epoch"],
            traceparent=row["traceparent"],
            log=log,
            started=row["started_at"] is not None,
        )
        if row["cancel_requested_at"] is not None:
            live.stop(row["cancel_grace_ms"], self.settings.default_grace, Cause.CANCELLED)
        self.hold(live)
        if row["result"] is not None:
            live.result = wire.AttemptResult.FromString(row["result"])
            self._fleet.start(self._complete(live, kept=True), f"finish {live.attempt_uid}")
        return live

    def hold(self, live: LiveAttempt) -> None:
        """Keep an attempt, and its worker told how far its log is durable."""

        def acknowledge(next_sequence: int) -> None:
            if live.result is not None and live.log.accepted == live.result.next_sequence:
                return  # it has nothing more to send: the result's acknowledgement says it all
            session = self._sessions.get(live.worker_id)
            if session is not None:
                session.acknowledge(
                    wire.LogAck(attempt_uid=live.attempt_uid, epoch=live.epoch, next_sequence=next_sequence)
                )

        live.log.on_durable = acknowledge
        self.live.add(live)

    def budget(self, spec: types_wire.JobSpec) -> int:
        """Return a job's log budget in bytes."""
        return spec.log_budget_bytes or self.settings.log_budget

    def run_on(self, session: Session, live: LiveAttempt) -> None:
        """Tell a connected worker to run its attempt, and to stop it where that was asked for."""
        if live.losing and not live.started:
            return  # it has been given up: the job may go elsewhere
        if not live.started and live.log.durable < live.log.accepted:
            # The worker's chunks follow the server's own: those must be there first, whoever dies.
            self._fleet.start(self._run_once_durable(session, live), f"run {live.attempt_uid}")
            return
        if not live.started:
            session.send(live.run_message())
            live.run_sent = True
        if live.cancel is not None:
            session.send(wire.ConnectResponse(cancel=live.cancel))

    async def _run_once_durable(self, session: Session, live: LiveAttempt) -> None:
        await live.log.flush()
        if self._sessions.get(live.worker_id) is session and live.result is None and not live.log.ended:
            self.run_on(session, live)

    # What a worker says

    def registered(self, row: RowMapping) -> None:
        """Note that a worker has its session.

        :param row: the worker's.
        """
        self._fleet.registered(row)

    def ready(self, row: RowMapping) -> None:
        """Note a worker's first hello.

        :param row: the worker's, after the hello.
        """
        self._fleet.ready(row)

    def _own(self, session: Session, attempt_uid: str, epoch: int) -> LiveAttempt | None:
        """Return the attempt a worker speaks of; None when it is over, or not the worker's any more.

        :raise ProtocolViolationError: it is another worker's.
        """
        live = self.live.by_uid(attempt_uid)
        if live is None:
            return None
        if live.worker_id != session.worker_id:
            raise ProtocolViolationError(f"attempt {attempt_uid} is another worker's")
        return live if live.epoch == epoch else None

    def started(self, session: Session, message: wire.AttemptStarted) -> None:
        """Note that the process runs. It is written down a moment later, or with the end of a job that is shorter."""
        live = self._own(session, message.attempt_uid, message.epoch)
        if live is None or live.started:
            return
        limit = None
        if live.spec.HasField("run_timeout"):
            grace = duration_micros(live.spec.cancel_grace) if live.spec.HasField("cancel_grace") else None
            grace = int(self.settings.default_grace * 1e6) if grace is None else grace
            limit = duration_micros(live.spec.run_timeout) + grace + int(self.settings.run_margin * 1e6)
        epoch = live.epoch
        live.started = True
        live.unwritten_start = lambda tx: attempt_started(tx, live.attempt_uid, epoch, limit)
        asyncio.get_running_loop().call_later(START_SECONDS, self._write_start_soon, live)

    def _write_start_soon(self, live: LiveAttempt) -> None:
        # With a result there, the end is about to be written, or the result.
        if live.unwritten_start is not None and live.result is None:
            self._fleet.start(self._write_start(live), f"start {live.attempt_uid}")

    async def _write_start(self, live: LiveAttempt) -> None:
        await self._persist(live.take_start())
        self.changed.moved(live.job_id)

    async def log(self, session: Session, message: wire.LogBlocks) -> None:
        """Take a block of the log.

        :raise ProtocolViolationError: another worker's attempt.
        :raise hodei_logstore.block.BlockError: it is not what it claims to be.
        :raise hodei_server.logs.open_log.LogOrderError: chunks are missing before it.
        """
        live = self._own(session, message.attempt_uid, message.epoch)
        if live is None or live.log.ended:
            return
        if live.result is not None and live.result.epoch != live.epoch:
            return
        block = parse_block(message.block, attempt=live.attempt_uid)
        if live.result is not None and block.next_sequence > live.result.next_sequence:
            raise ProtocolViolationError(f"a chunk of attempt {live.attempt_uid} lies behind the end its result named")
        repeated = block.next_sequence <= live.log.durable
        live.log.add(block, message.epoch)
        if repeated:
            live.log.on_durable(live.log.durable)
        await live.log.wait_for_room()

    def result(self, session: Session, message: wire.AttemptResult) -> None:
        """Take the result of an attempt; it is acknowledged once its log is durable and the job has moved on.

        :raise ProtocolViolationError: it can't be true, or differs from the one before.
        """
        live = self._own(session, message.attempt_uid, message.epoch)
        if live is None:
            session.send(result_ack(message))
            return
        if live.result is not None:
            if live.result.epoch == message.epoch and not same_outcome(live.result, message):
                raise ProtocolViolationError(f"attempt {live.attempt_uid} ended twice in different ways")
            return
        wrong = wrong_in(message)
        if message.next_sequence < live.log.accepted:
            wrong = "its log has more chunks than it says"
        if wrong:
            raise ProtocolViolationError(f"the result of attempt {live.attempt_uid} can't be true: {wrong}")
        message.message = printable(message.message)
        live.result = message
        self._fleet.start(self._complete(live, kept=False), f"finish {live.attempt_uid}")

    def refused(self, session: Session, message: wire.RunRefused) -> None:
        """Give an attempt up that its worker did not take.

        :raise ProtocolViolationError: it is another worker's.
        """
        live = self._own(session, message.attempt_uid, message.epoch)
        if live is not None and not live.started:
            reason = f"The worker refused the job: {printable(message.reason)}"
            self.lose_soon(live, Cause.PROVIDER_ERROR, reason)

    # What others say

    def cancel(self, row: RowMapping) -> None:
        """Carry a stored wish to stop a job to where it runs."""
        self.changed.moved(row["job_id"])
        live = self.live.of_job(row["job_id"])
        if live is None or live.result is not None:
            return
        live.stop(row["cancel_grace_ms"], self.settings.default_grace, Cause.CANCELLED)
        session = self._sessions.get(live.worker_id)
        if live.run_sent or live.started:
            if session is not None and live.cancel is not None:
                session.send(wire.ConnectResponse(cancel=live.cancel))
            return
        self.lose_soon(live, Cause.CANCELLED, "Cancelled before it was started")

    def lose_soon(self, live: LiveAttempt, cause: Cause, message: str) -> None:
        """Give an attempt up in the background: remove its worker, then end it."""
        if not live.losing and live.result is None:
            live.losing = True
            self._fleet.start(self._lose(live, cause, message), f"lose {live.attempt_uid}")

    def start_too_late(self, live: LiveAttempt) -> None:
        """Give an attempt up that has not started in time, for the reason that its provider has for it."""
        if not live.losing and live.result is None:
            live.losing = True
            self._fleet.start(self._lose_late(live), f"lose {live.attempt_uid}")

    async def _lose_late(self, live: LiveAttempt) -> None:
        cause, message = Cause.START_TIMEOUT, "The worker did not start the job in time"
        description = await self._fleet.describe(live.worker_id, live.provider)
        if description.phase is WorkerPhase.PENDING and description.reason in CAUSES:
            cause, message = CAUSES[description.reason], f"{message}: {description.message}"
        await self._lose(live, cause, message)

    async def _lose(self, live: LiveAttempt, cause: Cause, message: str) -> None:
        self._blame(live, cause)
        details: Sequence[str] = ()
        if cause is not Cause.CANCELLED:
            details = await self._fleet.diagnose(live.worker_id, live.provider)
        # Only when nothing of the worker is left may another attempt begin; or when it can't run the job any more.
        removal = asyncio.ensure_future(self._fleet.remove(live.worker_id, message, provider=live.provider))
        given_up = asyncio.ensure_future(live.given_up.wait())
        try:
            await asyncio.wait({removal, given_up}, return_when=asyncio.FIRST_COMPLETED)
            if removal.done():
                removal.result()
            else:
                message = f"{message}; provider {live.provider} can't be reached to confirm that it is gone"
        finally:
            given_up.cancel()
            removal.cancel()  # of the waiting only: the removal goes on
        live.worker_gone.set()
        await self.fail(live, cause, message, details)

    def _blame(self, live: LiveAttempt, cause: Cause) -> None:
        """Count a loss against its provider. What its job, or the job's image, may have caused opens no breaker.

        A launch that failed was counted where that was seen.
        """
        if cause is Cause.WORKER_LOST:
            self._fleet.failed(live.provider, own_fault=not live.started and not live.run_sent)
        elif cause is Cause.START_TIMEOUT:
            never_came = self._sessions.get(live.worker_id) is None and not live.run_sent
            self._fleet.failed(live.provider, own_fault=never_came and not live.spec.image)
        elif not live.run_sent:
            self._fleet.undecided(live.provider)

    async def fail(self, live: LiveAttempt, cause: Cause, message: str, details: Sequence[str] = ()) -> None:
        """End an attempt by the server's own word; its worker must be gone, or never have been there."""
        if live.result is not None:
            return
        result = wire.AttemptResult(
            attempt_uid=live.attempt_uid,
            epoch=live.epoch + 1,
            cause=types_wire.Cause.ValueType(int(cause)),
            message=message,
        )
        live.result = result
        live.log.fence(live.epoch + 1)
        live.epoch += 1
        start = live.take_start()
        await self._persist(lambda tx: (start(tx), keep_result(tx, result, fence=True)))
        self.changed.moved(live.job_id)
        await self._say(live, [*details, message])
        result.next_sequence = live.log.accepted
        await self._complete(live, kept=True)

    def tell(self, live: LiveAttempt, line: str) -> None:
        """Write a line of progress to a log, as long as no worker writes it."""
        if not live.run_sent and not live.losing and live.result is None and not live.log.ended:
            self._write_lines(live, [line])
            self._fleet.start(live.log.flush(), f"log of {live.attempt_uid}")

    async def _say(self, live: LiveAttempt, lines: Sequence[str]) -> None:
        """Write the server's own lines to the end of a log, and wait for them to be durable."""
        self._write_lines(live, lines)
        await live.log.flush()

    @staticmethod
    def _write_lines(live: LiveAttempt, lines: Sequence[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()[-65536:]
        chunk = log_wire.LogChunk(
            sequence=live.log.accepted,
            time_unix_nanos=max(steady_time_ns(), live.log.last_time),
            stream=log_wire.LOG_STREAM_SYSTEM,
            data=data,
        )
        live.log.add(make_block([chunk]), live.epoch)

    # The end

    async def _complete(self, live: LiveAttempt, *, kept: bool) -> None:
        """End an attempt whose result is here, once its log is durable or has been waited for long enough."""
        result = live.result
        assert result is not None  # noqa: S101 - the caller has just set it
        by_worker = result.epoch == live.epoch and live.result is not None and bool(result.log_checksum)
        if not kept and not await self._log_within(live, result, RESULT_SECONDS):
            start = live.take_start()
            await self._persist(lambda tx: (start(tx), keep_result(tx, result)))
            self.changed.moved(live.job_id)
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
            complete = not live.started
        end = LogEnd(next_sequence=log.durable, complete=complete, open_segment=figures)
        start, prices = live.take_start(), self.settings.prices.get(live.provider)
        ttl = self.settings.log_ttl_of_tenants.get(live.spec.tenant or "default", self.settings.log_ttl)

        def write(tx: Transaction) -> tuple[RowMapping | None, RowMapping | None]:
            start(tx)
            if not kept:
                keep_result(tx, result)
            job = finish(tx, live.attempt_uid, end, int(ttl * 1e6), prices)
            return job, release_worker(tx, live.worker_id, live.attempt_uid)

        job, worker = await self._persist(write)
        self.live.remove(live)
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
            self.delayed = self.delayed or job["state"] == int(JobState.QUEUED)
        self.changed.moved(live.job_id)
        if worker is not None and worker["state"] == int(WorkerState.DRAINING):
            self._fleet.remove_soon(live.worker_id, "Has done its work", leave_time=True)
        self.idle.moved()

    async def _persist(self, write: Callable[[Transaction], T]) -> T:
        """Write what must be written sooner or later: a full disk or a lost database only delays it."""
        while True:
            try:
                return await self._database.write(write)
            except DatabaseUnavailableError as error:
                _log.warning("database.unavailable", error=str(error))
                await asyncio.sleep(PERSIST_RETRY_SECONDS)

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
        deadline = time.monotonic() + self.settings.log_wait
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
