"""A scripted server, and workers that are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc import aio

from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.v1 import log_pb2, types_pb2, worker_pb2_grpc
from hodei.v1 import worker_pb2 as wire

OTP = "one-time-token"
SESSION = "session-token"


class ScriptedServer(worker_pb2_grpc.WorkerServiceServicer):
    """Records what a worker says; what it answers is set by its attributes."""

    def __init__(self) -> None:
        self.port = 0
        self.hellos: list[wire.WorkerHello] = []
        self.chunks: list[log_pb2.LogChunk] = []
        self.results: list[wire.AttemptResult] = []
        self.started = asyncio.Event()
        self.heard = asyncio.Event()
        self.spec = types_pb2.JobSpec()
        self.refuse_register = False
        self.results_to_leave_unanswered = 0
        self.break_after_chunks = 0
        self.cancel_on_start: wire.CancelAttempt | None = None
        self.cancel_on_output: wire.CancelAttempt | None = None
        self.ping_seconds = 5.0
        self.pings = 0
        self.pings_before_acks = 0
        self.bytes_before_acks = -1
        #: A slow server: it acknowledges at pings only, once this file has been so large.
        self.spool: Path | None = None
        self.spool_before_acks = 0
        self.largest_spool = 0
        self.draining = asyncio.Event()
        self.clock_offset = 0
        self.close_on_start = ""
        self.pings_before_close = 0
        self.unavailable: list[bytes] = []
        self.refused = asyncio.Event()

    @property
    def next_sequence(self) -> int:
        """The sequence that follows what was taken."""
        return self.chunks[-1].sequence + 1 if self.chunks else 0

    def data(self, stream: log_pb2.LogStream.ValueType) -> bytes:
        """Return what was written on a stream."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)

    def checksum(self) -> bytes:
        """Return the checksum of what was taken."""
        return encode_checksum(add_checksums(*(chunk_checksum(c.sequence, c.stream, c.data) for c in self.chunks)))

    async def Register(  # noqa: N802 - the name on the wire
        self,
        request: wire.RegisterRequest,
        context: aio.ServicerContext[wire.RegisterRequest, wire.RegisterResponse],
    ) -> wire.RegisterResponse:
        """Give a session for the token."""
        if self.unavailable:
            self.refused.set()
            trailing = (("grpc-status-details-bin", self.unavailable.pop()),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now", trailing_metadata=trailing)
        if self.refuse_register or request.otp != OTP or len(request.nonce) < 16:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token was used")
        return wire.RegisterResponse(session_token=SESSION, protocol_version=1)

    async def Connect(  # noqa: N802 - the name on the wire
        self,
        requests: AsyncIterator[wire.ConnectRequest],
        context: aio.ServicerContext[wire.ConnectRequest, wire.ConnectResponse],
    ) -> AsyncIterator[wire.ConnectResponse]:
        """Serve the stream as scripted."""
        if ("authorization", f"Bearer {SESSION}") not in tuple(context.invocation_metadata() or ()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no session")
        async for message in _parts(requests):
            match message.WhichOneof("message"):
                case "hello":
                    for answer in self._welcome(message.hello):
                        yield answer
                case "started":
                    self.started.set()
                    for answer in self._on_start():
                        yield answer
                case "draining":
                    self.draining.set()
                case "log":
                    await self._take(message.log.block, context)
                    for answer in self._on_log():
                        yield answer
                case "result":
                    self.results.append(message.result)
                    if len(self.results) <= self.results_to_leave_unanswered:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
                    yield wire.ConnectResponse(result_ack=wire.ResultAck(attempt_uid="a", epoch=1))
                case "ping":
                    for answer in self._on_ping(message.ping.number):
                        yield answer

    def _on_ping(self, number: int) -> Iterator[wire.ConnectResponse]:
        self.pings += 1
        yield wire.ConnectResponse(pong=wire.ServerPong(number=number))
        if self.pings == self.pings_before_acks:
            self.bytes_before_acks = sum(len(chunk.data) for chunk in self.chunks)
            yield self._acknowledgement()
        if self.spool is not None:
            self._measure(self.spool)
            if self.largest_spool >= self.spool_before_acks:
                yield self._acknowledgement()
        if self.pings == self.pings_before_close:
            yield wire.ConnectResponse(closed=wire.SessionClosed(reason="closed on purpose"))

    def _measure(self, spool: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.largest_spool = max(self.largest_spool, spool.stat().st_size)

    def _on_start(self) -> list[wire.ConnectResponse]:
        if self.close_on_start:
            return [wire.ConnectResponse(closed=wire.SessionClosed(reason=self.close_on_start))]
        return [wire.ConnectResponse(cancel=self.cancel_on_start)] if self.cancel_on_start is not None else []

    def _on_log(self) -> list[wire.ConnectResponse]:
        self.heard.set()
        answers = [self._acknowledgement()] if self.pings >= self.pings_before_acks and not self.spool else []
        if self.cancel_on_output is not None:
            answers.append(wire.ConnectResponse(cancel=self.cancel_on_output))
        return answers

    def _welcome(self, hello: wire.WorkerHello) -> list[wire.ConnectResponse]:
        self.hellos.append(hello)
        welcome = wire.ServerWelcome(server_id="s", protocol_version=1)
        welcome.ping_interval.FromMilliseconds(int(self.ping_seconds * 1000))
        welcome.orphan_after.FromSeconds(600)
        welcome.clock_offset_nanos = self.clock_offset
        for held in hello.attempts:
            welcome.attempts.add(attempt_uid=held.attempt_uid, next_sequence=self.next_sequence)
        answers = [wire.ConnectResponse(welcome=welcome)]
        if not hello.attempts:
            run = wire.RunAttempt(job_id="j", attempt_uid="a", attempt_number=1, epoch=1, spec=self.spec)
            answers.append(wire.ConnectResponse(run=run))
        return answers

    async def _take(
        self, block: bytes, context: aio.ServicerContext[wire.ConnectRequest, wire.ConnectResponse]
    ) -> None:
        for chunk in log_pb2.LogBlock.FromString(block).chunks:
            assert chunk.sequence <= self.next_sequence, "a gap"
            if chunk.sequence == self.next_sequence:
                self.chunks.append(chunk)
        if 0 < self.break_after_chunks <= len(self.chunks):
            self.break_after_chunks = 0
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")

    def _acknowledgement(self) -> wire.ConnectResponse:
        ack = wire.LogAck(attempt_uid="a", epoch=1, next_sequence=self.next_sequence)
        return wire.ConnectResponse(log_ack=ack)


async def _parts(requests: AsyncIterator[wire.ConnectRequest]) -> AsyncIterator[wire.ConnectRequest]:
    """Yield each message, those of batches one by one."""
    async for message in requests:
        if message.WhichOneof("message") != "batch":
            yield message
            continue
        for part in message.batch.messages:
            yield part


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """Return a scripted server that listens."""
    scripted = ScriptedServer()
    grpc_server = aio.server()
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(scripted, grpc_server)
    scripted.port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    yield scripted
    await grpc_server.stop(None)


@pytest.fixture
async def run_worker(server: ScriptedServer, tmp_path: Path) -> Callable[..., Awaitable[int]]:
    """Return what runs a worker to its end and returns its exit code; `through` is what it is run by."""

    async def run(
        *argv: str,
        stdin: bytes | None = None,
        terminate_at: asyncio.Event | None = None,
        through: Sequence[str] = (),
        **environment: str,
    ) -> int:
        if argv:
            server.spec.argv[:] = argv
        if stdin is not None:
            server.spec.stdin = stdin
        file = tmp_path / "otp"
        file.write_text(OTP)
        process = await asyncio.create_subprocess_exec(
            *through,
            sys.executable,
            "-m",
            "hodei_worker",
            env=os.environ
            | {
                "HODEI_WORKER_ID": "w1",
                "HODEI_SERVER_ADDRESS": f"127.0.0.1:{server.port}",
                "HODEI_OTP_TOKEN_FILE": str(file),
                "HODEI_WORKER_DIR": str(tmp_path / "work"),
            }
            | environment,
        )
        async with asyncio.timeout(60):
            if terminate_at is not None:
                await terminate_at.wait()
                process.terminate()
            return await process.wait()

    return run
