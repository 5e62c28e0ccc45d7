"""The agent: one session with the server from registration to its end, across any number of connections."""

from __future__ import annotations

import asyncio
import logging
import signal
import time

from grpc import aio

import hodei
from hodei.clock import steady_time_ns
from hodei.transport import open_channel
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei.v1 import worker_pb2_grpc
from hodei_worker.attempt import DEFAULT_GRACE, Attempt
from hodei_worker.backoff import Backoff
from hodei_worker.connection import SILENT_INTERVALS, Connection, ConnectionLostError, open_stream
from hodei_worker.health import HealthFile
from hodei_worker.leavings import Leavings
from hodei_worker.process import descendants
from hodei_worker.registration import PROTOCOL_VERSION, REFUSALS, SessionOverError, register
from hodei_worker.settings import WorkerSettings

_log = logging.getLogger("hodei.worker")

WELCOME_SECONDS = 15.0
#: Exit codes of the worker itself.
EXIT_DONE, EXIT_REFUSED, EXIT_NO_SERVER = 0, 3, 4


class Agent:
    """Runs jobs for a server, one at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._leavings = Leavings(settings.scratch_folders)
        self._health = HealthFile(settings.directory)
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._attempt: Attempt | None = None
        self._running: asyncio.Task[None] | None = None
        #: What fails here without a reason that is known ends the worker: its server takes it for lost.
        self._tasks = asyncio.TaskGroup()
        self._jobs_done = 0
        self._draining = False
        self._offset = 0
        self._ping_interval = 10.0
        self._orphan_after = 600.0
        self._acknowledged_at = _boottime()
        # A job is given up after so long without a server: there are to be several attempts to find one before.
        self._backoff = Backoff(lambda: self._orphan_after / 8)

    async def run(self) -> int:
        """Serve until there is nothing more to do; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
        settings = self._settings
        async with (
            open_channel(settings.server, settings.tls, allow_plaintext=settings.allow_plaintext) as channel,
            self._tasks,
        ):
            watchdog = self._tasks.create_task(self._watch_orphanhood(), name="orphan watchdog")
            try:
                token = await register(
                    worker_pb2_grpc.WorkerServiceStub(channel),
                    settings,
                    self._backoff,
                    wanted=lambda: not self._draining,
                )
                return EXIT_NO_SERVER if token is None else await self._serve(channel, token)
            except SessionOverError as over:
                _log.error("refused by the server: %s", over)
                return EXIT_REFUSED
            finally:
                self._health.clear()
                watchdog.cancel()
                await self._end_attempt()

    # Sessions and connections

    async def _serve(self, channel: aio.Channel, token: str) -> int:
        lost_at = time.monotonic()
        while True:
            failure: aio.AioRpcError | None = None
            try:
                await self._connect(channel, token)
            except aio.AioRpcError as error:
                if error.code() in REFUSALS:
                    raise SessionOverError(error.details() or error.code().name) from None
                failure = error
                _log.warning("connection lost: %s", error.details())
            except ConnectionLostError as error:
                _log.info("connection ended: %s", error)
            finally:
                self._health.clear()
                if self._connection is not None:
                    lost_at = time.monotonic()
                self._connection = None
            if self._done:
                return EXIT_DONE
            limit = self._settings.server_gone_timeout if self._attempt is None else self._settings.delivery_timeout
            if time.monotonic() - lost_at > limit:
                _log.error("no server at %s for too long", self._settings.server)
                return EXIT_NO_SERVER
            await self._backoff.wait(failure)

    async def _connect(self, channel: aio.Channel, token: str) -> None:
        connection = Connection(open_stream(channel, token), self._handle, lambda: self._attempt, self._wake)
        welcome = await connection.greet(self._hello(), WELCOME_SECONDS)
        self._backoff.succeeded()
        self._offset = welcome.clock_offset_nanos
        self._ping_interval = welcome.ping_interval.ToTimedelta().total_seconds() or self._ping_interval
        self._orphan_after = welcome.orphan_after.ToTimedelta().total_seconds() or self._orphan_after
        self._confirm()
        for resume in welcome.attempts:
            self._resume(resume)
        self._connection = connection
        _log.info("connected to %s", self._settings.server)
        if self._draining:
            connection.send(wire.ConnectRequest(draining=wire.WorkerDraining(reason="the worker is ending")))
        if self._done:
            connection.finish()
        await connection.serve(self._ping_interval)

    def _hello(self) -> wire.WorkerHello:
        hello = wire.WorkerHello(
            protocol_version=PROTOCOL_VERSION,
            worker_version=hodei.__version__,
            time_unix_nanos=steady_time_ns(),
            draining=self._draining,
        )
        attempt = self._attempt
        if attempt is not None:
            hello.attempts.add(
                attempt_uid=attempt.uid,
                epoch=attempt.epoch,
                next_sequence=attempt.outbox.next_sequence,
                first_held_sequence=attempt.outbox.acknowledged,
                started=attempt.started is not None,
                ended=attempt.result is not None,
            )
        return hello

    def _resume(self, resume: wire.ResumeAttempt) -> None:
        attempt = self._attempt
        if attempt is None or resume.attempt_uid != attempt.uid:
            return
        if resume.abandon:
            _log.warning("attempt given up: it is no longer this worker's", extra={"attempt_uid": attempt.uid})
            attempt.abandon()
            if attempt.result is not None:
                self._forget(attempt)
            return
        attempt.outbox.rewind(resume.next_sequence)
        attempt.output.resume()

    # What the server says

    def _handle(self, message: wire.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "run":
                self._run(message.run)
            case "cancel":
                self._cancel(message.cancel)
            case "log_ack":
                self._acknowledge(message.log_ack)
            case "result_ack":
                self._settle(message.result_ack)
            case "ping":
                self._send(wire.ConnectRequest(pong=wire.WorkerPong(number=message.ping.number)))
            case "pong":
                self._confirm()
            case "drain":
                self._drain(message.drain.reason)
            case "closed":
                raise SessionOverError(message.closed.reason)

    def _confirm(self) -> None:
        """Take note that the server is there."""
        self._acknowledged_at = _boottime()
        self._health.confirm(SILENT_INTERVALS * self._ping_interval)

    def _send(self, message: wire.ConnectRequest) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def _run(self, run: wire.RunAttempt) -> None:
        attempt = self._attempt
        if attempt is not None and (attempt.uid, attempt.epoch) == (run.attempt_uid, run.epoch):
            return
        if attempt is not None or self._draining:
            reason = "the worker is draining" if self._draining else "the worker has an attempt"
            refused = wire.RunRefused(attempt_uid=run.attempt_uid, epoch=run.epoch, reason=reason)
            self._send(wire.ConnectRequest(run_refused=refused))
            return
        attempt = Attempt(run, self._settings, self._leavings, changed=self._wake.set, offset=lambda: self._offset)
        self._attempt = attempt
        self._running = self._tasks.create_task(self._run_attempt(attempt), name=f"attempt {attempt.uid}")

    async def _run_attempt(self, attempt: Attempt) -> None:
        await attempt.run()
        _log.info("job ended", extra=attempt.names)
        if attempt.abandoned:
            self._forget(attempt)
        self._wake.set()

    def _cancel(self, cancel: wire.CancelAttempt) -> None:
        attempt = self._attempt
        if attempt is not None and (attempt.uid, attempt.epoch) == (cancel.attempt_uid, cancel.epoch):
            grace = cancel.grace.ToTimedelta().total_seconds() if cancel.HasField("grace") else DEFAULT_GRACE
            attempt.stop(cancel.cause or types_wire.CAUSE_CANCELLED, grace)

    def _acknowledge(self, ack: wire.LogAck) -> None:
        attempt = self._attempt
        if attempt is not None and (attempt.uid, attempt.epoch) == (ack.attempt_uid, ack.epoch):
            attempt.outbox.acknowledge(ack.next_sequence)
            attempt.output.resume()
            self._wake.set()

    def _settle(self, ack: wire.ResultAck) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.uid == ack.attempt_uid and attempt.result is not None:
            self._forget(attempt)

    def _forget(self, attempt: Attempt) -> None:
        attempt.forget()
        if self._attempt is attempt:
            self._attempt = None
            self._jobs_done += 1
        if self._done and self._connection is not None:
            self._connection.finish()

    # The end

    @property
    def _done(self) -> bool:
        spent = 0 < self._settings.max_jobs <= self._jobs_done
        return self._attempt is None and (spent or self._draining)

    def _asked_to_end(self) -> None:
        """Drain; where whoever asks will not wait for the job, it is asked to end, too."""
        self._drain("the worker was asked to end")
        if self._attempt is not None and self._settings.term_grace is not None:
            self._attempt.stop(types_wire.CAUSE_EVICTED, self._settings.term_grace)

    def _drain(self, reason: str) -> None:
        if not self._draining:
            self._draining = True
            _log.info("draining: %s", reason)
            self._send(wire.ConnectRequest(draining=wire.WorkerDraining(reason=reason)))
        if self._done:
            self._backoff.hurry()
            if self._connection is not None:
                self._connection.finish()

    def _child_ended(self) -> None:
        if self._attempt is not None:
            self._attempt.reap()

    async def _watch_orphanhood(self) -> None:
        """Kill the job when the server has not acknowledged a ping for so long that it may have started another."""
        while True:
            await asyncio.sleep(min(1.0, self._orphan_after / 4))
            attempt = self._attempt
            if attempt is None or attempt.result is not None:
                continue
            if _boottime() - self._acknowledged_at > self._orphan_after:
                attempt.stop(types_wire.CAUSE_WORKER_LOST, 0.0)

    async def _end_attempt(self) -> None:
        """Leave nothing running."""
        attempt, running = self._attempt, self._running
        if attempt is not None and running is not None:
            attempt.abandon()
            await asyncio.wait({running})
            attempt.forget()
        for pid in descendants():
            _log.warning("process %d is left", pid)


def _boottime() -> float:
    """Return seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
