"""`WorkerService`: a one-time token for a session, and the session's one stream."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from grpc import aio
from sqlalchemy.engine import RowMapping

import hodei
from hodei.clock import steady_time_ns
from hodei.v1 import worker_pb2 as wire
from hodei.v1 import worker_pb2_grpc
from hodei_logstore.block import BlockError
from hodei_providers.faults import fault_point
from hodei_server.db.database import Database
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import burn_otp, drain_worker, said_hello, worker_of_session
from hodei_server.domain.errors import InvalidRequestError, UnauthenticatedError, Violation
from hodei_server.domain.ids import new_token
from hodei_server.domain.spec import check_text
from hodei_server.domain.states import Cause
from hodei_server.domain.workers import WorkerState
from hodei_server.instruments import WORKER_START
from hodei_server.logs.open_log import LogClosedError, LogOrderError
from hodei_server.rpc.requests import refuse
from hodei_server.rpc.worker_hello import read_hello
from hodei_server.rpc.worker_words import PROTOCOL_VERSION, check_protocol, check_reason
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet
from hodei_server.work.live import LiveAttempt
from hodei_server.work.reports import ProtocolViolationError, Reports
from hodei_server.work.sessions import Session, Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: How many sessions that were given out wait for their first hello; what the same nonce is answered with.
NONCE_MEMORY = 10_000
#: Ping intervals of silence after which a connection is given up.
SILENT_INTERVALS = 3
#: How often in a row a worker may break its stream off soon after its hello while its TCP connection holds.
MAX_BREAKS = 16
BREAKS = "its streams break off again and again on a connection that holds, as with frames beyond what gRPC takes"


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """Lets workers in and carries what they say to `Reports`.

    :param ping_interval: seconds between pings, both ways.
    :param orphan_after: seconds without an acknowledged ping after which a worker kills its job.
    """

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        fleet: Fleet,
        attempts: Attempts,
        reports: Reports,
        *,
        server_id: str,
        ping_interval: float,
        orphan_after: float,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._fleet = fleet
        self._attempts = attempts
        self._reports = reports
        self._server_id = server_id
        self._ping_interval = ping_interval
        self._orphan_after = orphan_after
        # A lost answer is asked for again with the same nonce; only the token itself can answer that.
        self._given: dict[tuple[str, bytes], str] = {}

    async def Register(  # noqa: N802 - the wire's name
        self,
        request: wire.RegisterRequest,
        context: aio.ServicerContext[wire.RegisterRequest, wire.RegisterResponse],  # noqa: ARG002 - the wire's shape
    ) -> wire.RegisterResponse:
        """Burn a one-time token for a session."""
        violations = []
        if not request.worker_id or len(request.worker_id) > 63 or not request.worker_id.isprintable():
            violations.append(Violation("worker_id", "must be a name of 1 to 63 characters"))
        if not request.otp or len(request.otp) > 256 or not request.otp.isprintable():
            violations.append(Violation("otp", "must be a one-time token of at most 256 characters"))
        if not 16 <= len(request.nonce) <= 64:
            violations.append(Violation("nonce", "must have 16 to 64 bytes"))
        violations += [*check_protocol("", request), *check_text("worker_version", request.worker_version, 64)]
        try:
            refuse(violations)
        except InvalidRequestError as error:
            self._sessions.refused("register", str(error), worker_id=request.worker_id[:63])
            raise
        key = (request.worker_id, request.nonce)
        token = self._given.get(key) or new_token()
        refusal = await self._database.write(
            lambda tx: burn_otp(tx, request.worker_id, request.otp, request.nonce, token)
        )
        if refusal is not None:
            self._sessions.refused("register", refusal, worker_id=request.worker_id)
            raise UnauthenticatedError(refusal)
        self._sessions.registered(request.worker_id)
        fault_point("worker.registered")
        self._given[key] = token
        _log.info("worker.registered", worker_id=request.worker_id, version=request.worker_version)
        while len(self._given) > NONCE_MEMORY:
            del self._given[next(iter(self._given))]
        return wire.RegisterResponse(session_token=token, protocol_version=PROTOCOL_VERSION)

    async def Connect(  # type: ignore[override]  # noqa: N802 - the wire's name; the stubs know generators only
        self,
        request_iterator: Any,  # noqa: ARG002 - read through the context
        context: aio.ServicerContext[wire.ConnectRequest, wire.ConnectResponse],
    ) -> None:
        """Serve a worker until either side ends the connection."""
        row = await self._authenticate(context)
        worker_id = row["worker_id"]
        try:
            hello = await read_hello(context)
        except InvalidRequestError as error:
            self._sessions.refused("hello", str(error), worker_id=worker_id)
            raise
        session = self._sessions.connect(worker_id, context.peer())
        session.version, session.protocol = hello.worker_version, hello.protocol_version
        sender = asyncio.create_task(self._send(session, context), name=f"send to {worker_id}")
        receiver: asyncio.Task[None] | None = None
        try:
            with structlog.contextvars.bound_contextvars(worker_id=worker_id):
                if session.breaks >= MAX_BREAKS:
                    self._shut_out(session, BREAKS)
                    return
                await self._greet(session, hello)
                receiver = asyncio.create_task(self._receive(session, context), name=f"receive from {worker_id}")
                await asyncio.wait({receiver, sender}, return_when=asyncio.FIRST_COMPLETED)
                if receiver.done():
                    receiver.result()
        finally:
            self._sessions.disconnect(session, moments=SILENT_INTERVALS * self._ping_interval)
            if receiver is not None:
                receiver.cancel()
                await asyncio.gather(receiver, return_exceptions=True)
            # What is still to be said (why the session is closed) gets out, if the worker listens.
            await asyncio.wait({sender}, timeout=1.0)
            sender.cancel()
            # That the connection is gone is no news here.
            await asyncio.gather(sender, return_exceptions=True)

    async def _authenticate(self, context: aio.ServicerContext[Any, Any]) -> RowMapping:
        metadata = dict(context.invocation_metadata() or ())
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        row = None
        if scheme.lower() == "bearer" and token and len(token) <= 256:
            row = await self._database.read(lambda tx: worker_of_session(tx, token))
        if row is None:
            reason = "the session is not known, or has ended"
            self._sessions.refused("session", reason, peer=context.peer())
            raise UnauthenticatedError(reason)
        return row

    async def _greet(self, session: Session, hello: wire.WorkerHello) -> None:
        worker_id = session.worker_id

        def write(tx: Transaction) -> RowMapping | None:
            if hello.draining:
                drain_worker(tx, worker_id)
            return said_hello(tx, worker_id)

        row = await self._database.write(write)
        if row is not None and row["hello_at"] == row["last_seen_at"]:  # its first
            WORKER_START.labels(row["provider"]).observe((row["hello_at"] - row["created_at"]) / 1e6)
            self._fleet.ready(row)
        self._given = {key: token for key, token in self._given.items() if key[0] != worker_id}
        welcome = wire.ServerWelcome(
            server_id=self._server_id,
            protocol_version=PROTOCOL_VERSION,
            clock_offset_nanos=steady_time_ns() - hello.time_unix_nanos if hello.time_unix_nanos else 0,
        )
        welcome.ping_interval.FromTimedelta(dt.timedelta(seconds=self._ping_interval))
        welcome.orphan_after.FromTimedelta(dt.timedelta(seconds=self._orphan_after))
        live = self._attempts.live.of_worker(worker_id)
        held_live = False
        for held in hello.attempts:
            resume = welcome.attempts.add(attempt_uid=held.attempt_uid)
            if live is not None and held.attempt_uid == live.attempt_uid and held.epoch == live.epoch:
                # What is accepted but not durable is kept by the worker until it is.
                resume.next_sequence = live.log.durable
                held_live = True
            else:
                resume.abandon = True
        session.send(wire.ConnectResponse(welcome=welcome))
        _log.info("worker.connected", worker_id=worker_id, attempts=len(hello.attempts))
        if row is not None:
            self._fleet.registered(row)
        if live is not None:
            self._resume(session, live, held=held_live)
        if row is not None and row["state"] in {int(WorkerState.IDLE), int(WorkerState.DRAINING)} and live is None:
            if row["state"] == int(WorkerState.DRAINING):
                session.send(wire.ConnectResponse(drain=wire.DrainRequest(reason="the worker is to be drained")))
            self._attempts.moves.idle.moved()

    def _resume(self, session: Session, live: LiveAttempt, *, held: bool) -> None:
        if live.started and not held and live.result is None:
            self._attempts.lose_soon(live, Cause.WORKER_LOST, "The worker came back without the attempt it had")
        elif held:
            live.run_sent = live.may_have_run = True
            if live.cancel is not None:
                session.send(wire.ConnectResponse(cancel=live.cancel))
        else:
            self._attempts.run_on(session, live)

    async def _receive(self, session: Session, context: aio.ServicerContext[Any, Any]) -> None:
        """Take messages until the worker ends the stream, its session is closed, or it says what can't be."""
        while not session.closed.is_set():
            message: Any = await context.read()
            if message is grpc.aio.EOF:
                return
            session.heard_at = time.monotonic()
            try:
                for each in parts_of(message):
                    await self._take(session, each)
            except (BlockError, LogOrderError, ProtocolViolationError) as error:
                self._shut_out(session, str(error))
                return

    def _shut_out(self, session: Session, reason: str) -> None:
        """Count what is refused, end the worker's session and give its attempt up."""
        self._sessions.refused("protocol", reason, worker_id=session.worker_id)
        session.end(reason)
        live = self._attempts.live.of_worker(session.worker_id)
        if live is not None:
            self._attempts.lose_soon(live, Cause.WORKER_LOST, f"The worker broke the protocol: {reason}")

    async def _take(self, session: Session, message: wire.ConnectRequest | InvalidRequestError) -> None:
        if isinstance(message, InvalidRequestError):
            versions = f"worker {session.version or 'of no version'}, server {hodei.__version__}"
            raise ProtocolViolationError(f"{message} ({versions})")
        kind = message.WhichOneof("message")
        if kind == "log":
            with contextlib.suppress(LogClosedError):  # late, and harmless
                await self._reports.log(session, message.log)
        elif kind == "started":
            self._reports.started(session, message.started)
        elif kind == "result":
            self._reports.result(session, message.result)
        elif kind == "ping":
            session.send(wire.ConnectResponse(pong=wire.ServerPong(number=message.ping.number)))
        elif kind == "draining":
            check_reason(message.draining.reason)
            await self._database.write(lambda tx: drain_worker(tx, session.worker_id))
        elif kind == "run_refused":
            check_reason(message.run_refused.reason)
            self._reports.refused(session, message.run_refused)
        elif kind != "pong":
            raise ProtocolViolationError(f"{kind or 'an unknown message'} has no place here")

    async def _send(self, session: Session, context: aio.ServicerContext[Any, wire.ConnectResponse]) -> None:
        """Send what waits, until the session is closed and nothing waits any more."""
        while True:
            messages = await session.outgoing()
            if not messages:
                return
            for message in messages:
                await context.write(message)

    def ping_all(self, since: float) -> None:
        """Ask every connected worker whether it is there; close the connections of those that were silent too long.

        :param since: monotonic seconds; before it the server did not listen.
        """
        for session in self._sessions.all():
            if time.monotonic() - max(session.heard_at, since) > SILENT_INTERVALS * self._ping_interval:
                session.close("the worker was silent for too long")
            else:
                session.send(wire.ConnectResponse(ping=wire.ServerPing()))


def parts_of(
    message: wire.ConnectRequest | InvalidRequestError,
) -> Sequence[wire.ConnectRequest | InvalidRequestError]:
    """Return the messages of a batch, or a message that is none."""
    if isinstance(message, wire.ConnectRequest) and message.WhichOneof("message") == "batch":
        return message.batch.messages
    return (message,)
