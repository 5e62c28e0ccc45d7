"""A server that says what a test wrote down, and breaks where the test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.address import Address
from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.v1 import job_pb2, job_pb2_grpc, log_pb2_grpc, types_pb2
from hodei.v1 import log_pb2 as wire
from hodei_client import Client, ClientSettings

Context = aio.ServicerContext[Any, Any]
Break = grpc.StatusCode


def chunk(sequence: int, data: bytes = b"", stream: wire.LogStream.ValueType = wire.LOG_STREAM_STDOUT) -> wire.LogChunk:
    """Return a chunk; its data tells its sequence unless given."""
    return wire.LogChunk(sequence=sequence, stream=stream, data=data or b"%d\n" % sequence)


def block(*chunks: wire.LogChunk) -> wire.StreamLogsResponse:
    """Return a message that carries chunks."""
    return wire.StreamLogsResponse(block=wire.LogBlock(chunks=chunks))


def start(sequence: int = 0, *, number: int = 1, skip: int = 0) -> wire.StreamLogsResponse:
    """Return the first message of a stream of attempt `number`, whose uid is ``a<number>``."""
    return wire.StreamLogsResponse(
        start=wire.LogStreamStart(
            job_id="j", attempt_uid=f"a{number}", attempt_number=number, first_sequence=sequence, skip_bytes=skip
        )
    )


def cut(first: int, last: int) -> wire.StreamLogsResponse:
    """Return a cut."""
    return wire.StreamLogsResponse(cut=wire.LogCut(first_sequence=first, last_sequence=last, bytes=10, lines=5))


def end(*chunks: wire.LogChunk, following: int = 0, following_sequence: int = -1) -> wire.StreamLogsResponse:
    """Return the end of a log of these chunks.

    :param following: the attempt that may follow.
    :param following_sequence: what the end gives as its next sequence, where that is not the last chunk's successor.
    """
    after = chunks[-1].sequence + 1 if chunks else 0
    total = add_checksums(*(chunk_checksum(each.sequence, each.stream, each.data) for each in chunks))
    return wire.StreamLogsResponse(
        end=wire.LogStreamEnd(
            next_sequence=after if following_sequence < 0 else following_sequence,
            receipt=wire.LogReceipt(ended=True, complete=True, chunks=after, checksum=encode_checksum(total)),
            outcome=types_pb2.Outcome(state=types_pb2.JOB_STATE_SUCCEEDED, cause=types_pb2.CAUSE_EXIT_CODE),
            another_attempt=bool(following),
            next_attempt_number=following,
        )
    )


class ScriptedServer(job_pb2_grpc.JobServiceServicer, log_pb2_grpc.LogStreamServiceServicer):
    """Answers each stream with the next script: messages, then an OK, or the status a script ends with."""

    def __init__(self) -> None:
        self.scripts: list[Sequence[Any]] = []
        self.log_requests: list[wire.StreamLogsRequest] = []
        self.watch_requests: list[job_pb2.WatchJobRequest] = []
        self.submits: list[job_pb2.SubmitJobRequest] = []
        self.submit_failures: list[grpc.StatusCode] = []
        self.metadata: list[dict[str, Any]] = []
        self.job = types_pb2.Job(job_id="j", state=types_pb2.JOB_STATE_RUNNING)
        self.cancelled = asyncio.Event()
        self.settings: Callable[..., ClientSettings]

    async def _play(self, context: Context) -> AsyncIterator[Any]:
        self.metadata.append(dict(context.invocation_metadata() or ()))
        try:
            for step in self.scripts.pop(0):
                if isinstance(step, grpc.StatusCode):
                    await context.abort(step, "broken on purpose", trailing_metadata=(("trace-id", "t" * 32),))
                elif step is None:
                    # As long as the client listens.
                    await asyncio.Event().wait()
                else:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            # The client may go while a message is still on its way out.
            self.cancelled.set()
            raise

    async def StreamLogs(self, request: wire.StreamLogsRequest, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the wire's name
        """Play the next script."""
        self.log_requests.append(request)
        async for message in self._play(context):
            yield message

    async def WatchJob(self, request: job_pb2.WatchJobRequest, context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the wire's name
        """Play the next script."""
        self.watch_requests.append(request)
        async for message in self._play(context):
            yield message

    async def SubmitJob(self, request: job_pb2.SubmitJobRequest, context: Context) -> job_pb2.SubmitJobResponse:  # noqa: N802 - the wire's name
        """Fail as often as is written down, then answer."""
        self.submits.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.submit_failures:
            await context.abort(self.submit_failures.pop(0), "not now", trailing_metadata=(("trace-id", "t" * 32),))
        return job_pb2.SubmitJobResponse(job_id="j")

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.GetJobResponse:  # noqa: N802, ARG002 - the wire's name and shape
        """Return the job as it is set."""
        return job_pb2.GetJobResponse(job=self.job)

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:  # noqa: N802, ARG002 - the wire's name and shape
        """Return three pages of one job."""
        page = int(request.page_token or 0)
        answer = job_pb2.ListJobsResponse(jobs=[types_pb2.Job(job_id=f"j{page}")])
        answer.next_page_token = str(page + 1) if page < 2 else ""
        return answer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """Return a scripted server that listens."""
    scripted = ScriptedServer()  # type: ignore[abstract]  # only what the tests call is there
    listener = aio.server()
    job_pb2_grpc.add_JobServiceServicer_to_server(scripted, listener)
    log_pb2_grpc.add_LogStreamServiceServicer_to_server(scripted, listener)
    port = listener.add_insecure_port("127.0.0.1:0")
    await listener.start()
    scripted.settings = lambda **more: ClientSettings(Address("127.0.0.1", port), **more)
    yield scripted
    await listener.stop(None)


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    """Return a client of it."""
    async with Client(settings=server.settings()) as client:
        yield client


@pytest.fixture
def says() -> dict[str, Callable[..., Any]]:
    """Return what scripts are made of."""
    return {"chunk": chunk, "block": block, "start": start, "cut": cut, "end": end}


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let resumes follow at once: how long they are spaced is a matter of chance."""
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)  # noqa: ARG005 - the library's shape
