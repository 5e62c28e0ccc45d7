"""The installed command against a server that says what a test wrote down."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.v1 import job_pb2, job_pb2_grpc, log_pb2_grpc
from hodei.v1 import log_pb2 as wire
from hodei.v1 import types_pb2 as types_wire

HODEI = str(Path(sys.executable).with_name("hodei"))
#: The same, but that a first Ctrl-C waits for a second one for as long as a test takes.
PATIENT = """
from hodei_cli.main import main
import hodei_cli.run
hodei_cli.run.SECOND_CTRL_C_SECONDS = 600.0
main()
"""
Context = aio.ServicerContext[Any, Any]
Said = tuple[wire.LogStream.ValueType, bytes]


class OneJobServer(job_pb2_grpc.JobServiceServicer, log_pb2_grpc.LogStreamServiceServicer):
    """Has one job, whose log and outcome a test sets.

    :ivar said: the log, chunk by chunk.
    :ivar breaks: after how many chunks each of the first streams breaks.
    :ivar cut: sequences that were dropped, first and last.
    :ivar hold: set when the job may end.
    :ivar following: set when somebody follows the log.
    :ivar watching: set when somebody waits for the job's end.
    :ivar left: set when whoever waited waits no longer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.said: list[Said] = []
        self.breaks: list[int] = []
        self.cut: tuple[int, int] | None = None
        self.outcome = types_wire.Outcome(state=types_wire.JOB_STATE_SUCCEEDED, exit_code=0, message="Done")
        self.has_attempt = True
        self.hold = asyncio.Event()
        self.hold.set()
        self.following = asyncio.Event()
        self.watching = asyncio.Event()
        self.left = asyncio.Event()
        self.cancels: list[job_pb2.CancelJobRequest] = []
        self.submits: list[job_pb2.SubmitJobRequest] = []
        self.streams = 0

    async def SubmitJob(self, request: job_pb2.SubmitJobRequest, context: Context) -> job_pb2.SubmitJobResponse:  # noqa: N802, ARG002 - the wire's name and shape
        """Take a job."""
        self.submits.append(request)
        return job_pb2.SubmitJobResponse(job_id="j1")

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.GetJobResponse:  # noqa: N802 - the wire's name
        """Return the job, whose reason would like to do something to a terminal."""
        if request.job_id != "j1":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {request.job_id}")
        job = types_wire.Job(job_id="j1", state=self.outcome.state, reason="a\x1b]0;b\x07c", version=2)
        return job_pb2.GetJobResponse(job=job)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.CancelJobResponse:  # noqa: N802, ARG002 - the wire's name and shape
        """End the job as cancelled."""
        self.cancels.append(request)
        self.outcome = types_wire.Outcome(state=types_wire.JOB_STATE_CANCELLED, message="Cancelled")
        self.hold.set()
        return job_pb2.CancelJobResponse(job=types_wire.Job(job_id="j1"))

    async def WatchJob(self, request: job_pb2.WatchJobRequest, context: Context) -> AsyncIterator[Any]:  # noqa: N802, ARG002 - the wire's name and shape
        """Tell of two changes."""
        yield job_pb2.WatchJobResponse(event=job_pb2.JobEvent(version=1, state=types_wire.JOB_STATE_RUNNING))
        self.watching.set()
        try:
            await self.hold.wait()
        finally:
            self.left.set()
        yield job_pb2.WatchJobResponse(
            event=job_pb2.JobEvent(version=2, state=self.outcome.state), outcome=self.outcome
        )

    async def StreamLogs(self, request: wire.StreamLogsRequest, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the wire's name
        """Send the log from where it was asked for, and break where it is written down."""
        if not self.has_attempt:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no attempt 1 of job j1")
        self.streams += 1
        self.following.set()
        first = request.after_sequence + 1 if request.WhichOneof("from") else 0
        breaks_at = self.breaks.pop(0) if self.breaks else -1
        yield wire.StreamLogsResponse(
            start=wire.LogStreamStart(attempt_uid="a", attempt_number=1, first_sequence=first)
        )
        total = 0
        for sequence, (stream, data) in enumerate(self.said):
            total = add_checksums(total, chunk_checksum(sequence, stream, data))
            if sequence == breaks_at:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
            if sequence < first or (request.streams and stream not in request.streams):
                continue
            if self.cut is not None and self.cut[0] <= sequence <= self.cut[1]:
                if sequence == self.cut[0]:
                    cut = wire.LogCut(first_sequence=sequence, last_sequence=self.cut[1], bytes=99, lines=7)
                    yield wire.StreamLogsResponse(cut=cut)
                continue
            chunk = wire.LogChunk(sequence=sequence, stream=stream, data=data)
            yield wire.StreamLogsResponse(block=wire.LogBlock(chunks=[chunk]))
        await self.hold.wait()
        receipt = wire.LogReceipt(ended=True, complete=True, checksum=encode_checksum(total))
        end = wire.LogStreamEnd(next_sequence=len(self.said), receipt=receipt, outcome=self.outcome)
        yield wire.StreamLogsResponse(end=end)


class Ran:
    """What a command left behind."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out
        self.err = err


class Cli:
    """Runs the installed command."""

    def __init__(self, server: OneJobServer) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        self.environment = kept | {"HODEI_SERVER": f"127.0.0.1:{server.port}"}

    async def start(self, *arguments: str, patient: bool = False, **options: Any) -> asyncio.subprocess.Process:
        """Start a command, which heeds Ctrl-C also where these tests run in the background of a shell.

        :param patient: it waits for a second Ctrl-C.
        """
        pipe = asyncio.subprocess.PIPE
        options = {"stdin": asyncio.subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **options}
        # Python heeds none where it begins with SIGINT ignored.
        heedless = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            program = (sys.executable, "-c", PATIENT) if patient else (HODEI,)
            return await asyncio.create_subprocess_exec(*program, *arguments, env=self.environment, **options)
        finally:
            signal.signal(signal.SIGINT, heedless)

    async def run(self, *arguments: str) -> Ran:
        """Run a command to its end."""
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out, err)


@pytest.fixture
async def server() -> AsyncIterator[OneJobServer]:
    """Return a server with one job."""
    found = OneJobServer()  # type: ignore[abstract]  # only what the tests call is there
    listener = aio.server()
    job_pb2_grpc.add_JobServiceServicer_to_server(found, listener)
    log_pb2_grpc.add_LogStreamServiceServicer_to_server(found, listener)
    found.port = listener.add_insecure_port("127.0.0.1:0")
    await listener.start()
    yield found
    found.hold.set()
    await listener.stop(None)


@pytest.fixture
def cli(server: OneJobServer) -> Cli:
    """Return a command line that talks to it."""
    return Cli(server)


@pytest.fixture
def said() -> Sequence[Said]:
    """Return a log of both streams that holds every byte, is cut amid lines and characters, and ends without one."""
    out, err, system = wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM
    every = bytes(range(256))
    return [
        (system, b"starting\n"),
        (out, every),
        (err, every[::-1]),
        (out, b"\x1b]0;title\x07caf\xc3"),
        (out, b"\xa9\r\n"),
        (err, b"x" * 65536),
        (out, b"no newline"),
    ]
