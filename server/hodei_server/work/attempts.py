"""What happens to an attempt at the word of others than its worker: the scheduler, a user, a clock, a provider.

What its worker says comes through `hodei_server.work.reports`; `hodei_server.work.completion` ends what has a result.

Each step is written down by one conditional transaction first and acted on afterwards, so a step that comes late, or
twice, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy.engine import RowMapping

import hodei
from hodei.clock import steady_time_ns
from hodei.v1 import log_pb2 as log_wire
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_logstore.block import make_block
from hodei_providers.contract import WorkerPhase
from hodei_server.db.attempts import keep_result
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.workers import worker_row
from hodei_server.domain.blame import of_loss
from hodei_server.domain.secrets import SecretError
from hodei_server.domain.states import Cause
from hodei_server.logs.book import LogBook
from hodei_server.secrets.jobs import JobSecrets
from hodei_server.work.completion import Completion
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import AttemptSettings, LiveAttempt, LiveAttempts, Moves
from hodei_server.work.losses import CAUSES
from hodei_server.work.sessions import Session, Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds between attempts to read from a database that can't be read.
READ_RETRY_SECONDS = 1.0
#: Workers know of secrets since this version of the protocol.
SECRETS_PROTOCOL = 2


class Attempts:
    """Moves attempts on.

    :ivar live: those that are not over.
    :ivar moves: tells who waits for them.
    :ivar completion: ends those that have a result.
    :ivar secrets: what jobs are given besides, and nothing else here holds.
    """

    def __init__(
        self,
        database: Database,
        book: LogBook,
        sessions: Sessions,
        fleet: Fleet,
        settings: AttemptSettings,
        *,
        secrets: JobSecrets,
    ) -> None:
        self.live = LiveAttempts()
        self.moves = Moves()
        self.settings = settings
        self.completion = Completion(
            database, book, sessions, fleet, settings=settings, live=self.live, moves=self.moves
        )
        self.secrets = secrets
        self._database = database
        self._book = book
        self._sessions = sessions
        self._fleet = fleet

    def begin(self, row: RowMapping, attempt_uid: str, provider: str, worker_id: str) -> LiveAttempt:
        """Hold an attempt that was just written down; tell its worker, if that is connected."""
        spec = types_wire.JobSpec.FromString(row["spec"])
        log = self._book.open_new(attempt_uid, epoch=1, budget=self._budget(spec))
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
        self._hold(live)
        _log.info("attempt.assigned", **live.names, worker_id=worker_id)
        self.moves.changed.moved(live.job_id)
        return live

    async def adopt(self, row: RowMapping) -> LiveAttempt:
        """Hold an attempt that was not over when the server ended."""
        spec = types_wire.JobSpec.FromString(row["spec"])
        log = await self._book.reopen(row["attempt_uid"], epoch=row["epoch"], budget=self._budget(spec))
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
        if not live.started:
            worker = await self._database.read(lambda tx: worker_row(tx, live.worker_id))
            live.may_have_run = worker is None or worker["hello_at"] is not None
        if row["cancel_requested_at"] is not None:
            live.stop(row["cancel_grace_ms"], self.settings.default_grace, Cause.CANCELLED)
        self._hold(live)
        if row["result"] is not None:
            live.result = wire.AttemptResult.FromString(row["result"])
            self.completion.begin(live, kept=True)
        return live

    def _hold(self, live: LiveAttempt) -> None:
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

    def _budget(self, spec: types_wire.JobSpec) -> int:
        """Return a job's log budget in bytes."""
        return spec.log_budget_bytes or self.settings.log_budget

    def run_on(self, session: Session, live: LiveAttempt) -> None:
        """Tell a connected worker to run its attempt that it does not have, unless a stop was asked for."""
        if live.losing and not live.started:
            return  # it has been given up: the job may go elsewhere
        if live.cancel is not None and not live.started:
            # Its worker does not have it: a server that has ended since may not have got to giving it up.
            self.lose_cancelled(live)
            return
        if not live.started and (live.log.durable < live.log.accepted or live.spec.secrets):
            # The worker's chunks follow the server's own: those must be there first, whoever dies.
            self._fleet.start(self._run_once_ready(session, live), f"run {live.attempt_uid}")
            return
        self._send_run(session, live)

    def _send_run(self, session: Session, live: LiveAttempt, secrets: Sequence[types_wire.Secret] = ()) -> None:
        if not live.started:
            session.send(live.run_message(secrets))
            live.run_sent = live.may_have_run = True
        if live.cancel is not None:
            session.send(wire.ConnectResponse(cancel=live.cancel))

    async def _run_once_ready(self, session: Session, live: LiveAttempt) -> None:
        secrets: Sequence[types_wire.Secret] = ()
        if live.spec.secrets and session.protocol < SECRETS_PROTOCOL:
            # It would run the job without them.
            why = f"worker {session.version or 'of no version'} knows of no secrets, server {hodei.__version__} does"
            self.lose_soon(live, Cause.WORKER_LOST, why)
            return
        while live.spec.secrets:
            try:
                secrets = await self.secrets.of(live.job_id, live.spec)
                break
            except SecretError as error:
                self.lose_soon(live, Cause.SECRET, str(error))
                return
            except DatabaseUnavailableError as error:
                _log.warning("database.unavailable", error=str(error))
                await asyncio.sleep(READ_RETRY_SECONDS)
        # Last, for a provider's line may have come meanwhile: from here to the message nothing is waited for.
        await live.log.flush()
        if self._sessions.get(live.worker_id) is not session or live.result is not None or live.log.ended:
            return
        if not live.losing:
            self._send_run(session, live, secrets)

    def cancel(self, row: RowMapping) -> None:
        """Carry a stored wish to stop a job to where it runs."""
        self.moves.changed.moved(row["job_id"])
        live = self.live.of_job(row["job_id"])
        if live is None or live.result is not None:
            return
        live.stop(row["cancel_grace_ms"], self.settings.default_grace, Cause.CANCELLED)
        session = self._sessions.get(live.worker_id)
        if live.run_sent or live.started:
            if session is not None and live.cancel is not None:
                session.send(wire.ConnectResponse(cancel=live.cancel))
            return
        self.lose_cancelled(live)

    def lose_cancelled(self, live: LiveAttempt) -> None:
        """Give an attempt up that was cancelled before its worker had it."""
        self.lose_soon(live, Cause.CANCELLED, "Cancelled before it was started")

    def lose_soon(self, live: LiveAttempt, cause: Cause, message: str, *, final: bool = False) -> None:
        """Give an attempt up in the background: remove its worker, then end it.

        :param final: no other attempt could begin, either.
        """
        if not live.losing and live.result is None:
            live.losing = True
            losing = self._losing(live, lambda: self._lose(live, cause, message, final=final))
            self._fleet.start(losing, f"lose {live.attempt_uid}")

    def start_too_late(self, live: LiveAttempt) -> None:
        """Give an attempt up that has not started in time, for the reason that its provider has for it."""
        if not live.losing and live.result is None:
            live.losing = True
            self._fleet.start(self._losing(live, lambda: self._lose_late(live)), f"lose {live.attempt_uid}")

    @staticmethod
    async def _losing(live: LiveAttempt, lose: Callable[[], Awaitable[None]]) -> None:
        try:
            await lose()
        finally:
            # One that failed left the attempt as it was: whoever finds it next gives it up again.
            live.losing = live.result is not None

    async def _lose_late(self, live: LiveAttempt) -> None:
        cause, message = Cause.START_TIMEOUT, "The worker did not start the job in time"
        description = await self._fleet.describe(live.worker_id, live.provider)
        if description.phase is WorkerPhase.PENDING:
            cause, message = CAUSES.get(description.reason, cause), f"{message}: {description.message}"
        await self._lose(live, cause, message)

    async def _lose(self, live: LiveAttempt, cause: Cause, message: str, *, final: bool = False) -> None:
        live.lost_by = (cause, message)
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
                message = f"{message}; {self._fleet.removals.out_of_reach.get(live.worker_id, 'it is not gone yet')}"
        finally:
            given_up.cancel()
            removal.cancel()  # of the waiting only: the removal goes on
        live.worker_gone.set()
        await self.fail(live, cause, message, details, final=final)

    def _blame(self, live: LiveAttempt, cause: Cause) -> None:
        """Tell its provider's measures of a loss; a launch that failed was counted where that was seen."""
        blame = of_loss(
            cause,
            has_job=live.started or live.run_sent,
            connected=self._sessions.get(live.worker_id) is not None,
            own_image=bool(live.spec.image),
        )
        if blame is not None:
            self._fleet.failed(live.provider, blame)

    async def fail(
        self, live: LiveAttempt, cause: Cause, message: str, details: Sequence[str] = (), *, final: bool = False
    ) -> None:
        """End an attempt by the server's own word; its worker must be gone, or never have been there."""
        if live.result is not None:
            return
        result = wire.AttemptResult(
            attempt_uid=live.attempt_uid,
            epoch=live.epoch + 1,
            cause=types_wire.Cause.ValueType(int(cause)),
            message=message,
            final=final,
        )
        live.result = result
        live.log.fence(live.epoch + 1)
        live.epoch += 1
        start = live.take_start()
        await self._database.persist(lambda tx: (start(tx), keep_result(tx, result, fence=True)))
        self.moves.changed.moved(live.job_id)
        await self._say(live, [*details, message])
        result.next_sequence = live.log.accepted
        await self.completion.complete(live, kept=True)

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
