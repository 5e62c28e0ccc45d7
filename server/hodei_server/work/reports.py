"""What workers say of the attempts they run: that they have started, their logs, how they ended."""

from __future__ import annotations

import asyncio

from sqlalchemy.engine import RowMapping

from hodei.clock import elapsed_ns
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_logstore.block import parse_block
from hodei_server.db.attempts import attempt_started
from hodei_server.db.database import Database
from hodei_server.db.jobs import duration_micros
from hodei_server.db.transaction import Transaction
from hodei_server.domain.states import Cause
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import LiveAttempt
from hodei_server.work.results import printable, result_ack, same_outcome, wrong_in
from hodei_server.work.sessions import Session

#: A process's start is written down after so many seconds, or with its end where that comes sooner.
START_SECONDS = 0.005


class ProtocolViolationError(Exception):
    """A worker said what it can't have to say; its session ends with this as the reason."""


class Reports:
    """Takes what workers say; what is of an attempt that is over, or given up, changes nothing."""

    def __init__(self, database: Database, fleet: Fleet, attempts: Attempts) -> None:
        self._database = database
        self._fleet = fleet
        self._attempts = attempts

    def _own(self, session: Session, attempt_uid: str, epoch: int) -> LiveAttempt | None:
        """Return the attempt a worker speaks of; None when it is over, or not the worker's any more.

        :raise ProtocolViolationError: it is another worker's.
        """
        live = self._attempts.live.by_uid(attempt_uid)
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
            grace = int(self._attempts.settings.default_grace * 1e6) if grace is None else grace
            limit = duration_micros(live.spec.run_timeout) + grace + int(self._attempts.settings.run_margin * 1e6)
        epoch, heard_at = live.epoch, elapsed_ns()

        def write(tx: Transaction) -> RowMapping | None:
            # It may be written down with its end: the time of that is none to begin at.
            ran = elapsed_ns() - heard_at
            if live.result is not None:
                ran = max(ran, live.result.time_unix_nanos - message.time_unix_nanos)
            return attempt_started(tx, live.attempt_uid, epoch, limit, ran_micros=ran // 1000)

        live.started = True
        live.unwritten_start = write
        asyncio.get_running_loop().call_later(START_SECONDS, self._write_start_soon, live)

    def _write_start_soon(self, live: LiveAttempt) -> None:
        # With a result there, the end is about to be written, or the result.
        if live.unwritten_start is not None and live.result is None:
            self._fleet.start(self._write_start(live), f"start {live.attempt_uid}")

    async def _write_start(self, live: LiveAttempt) -> None:
        await self._database.persist(live.take_start())
        self._attempts.moves.changed.moved(live.job_id)

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
        wrong = wrong_in(message)
        if message.cause == types_wire.CAUSE_EVICTED and live.lost_by is not None:
            # It was the server that had the worker end: why it did is the cause, not that the worker was asked to.
            cause, message.message = live.lost_by
            message.cause = types_wire.Cause.ValueType(int(cause))
        if live.result is not None:
            if live.result.epoch == message.epoch and not same_outcome(live.result, message):
                raise ProtocolViolationError(f"attempt {live.attempt_uid} ended twice in different ways")
            return
        if message.next_sequence < live.log.accepted:
            wrong = "its log has more chunks than it says"
        if wrong:
            raise ProtocolViolationError(f"the result of attempt {live.attempt_uid} can't be true: {wrong}")
        message.message = printable(message.message)
        live.result = message
        self._attempts.completion.begin(live, kept=False)

    def refused(self, session: Session, message: wire.RunRefused) -> None:
        """Give an attempt up that its worker did not take.

        :raise ProtocolViolationError: it is another worker's.
        """
        live = self._own(session, message.attempt_uid, message.epoch)
        if live is not None and not live.started:
            live.may_have_run = False
            reason = f"The worker refused the job: {printable(message.reason)}"
            self._attempts.lose_soon(live, Cause.PROVIDER_ERROR, reason)
