"""Following a log: one attempt after the other, over any number of broken connections, each chunk once and in order."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from grpc import aio

from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.v1 import log_pb2 as wire
from hodei.v1 import log_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client.errors import HodeiError, LogGapError, LogIntegrityError, UnavailableError, from_rpc

STDOUT: wire.LogStream.ValueType = wire.LOG_STREAM_STDOUT
STDERR: wire.LogStream.ValueType = wire.LOG_STREAM_STDERR
SYSTEM: wire.LogStream.ValueType = wire.LOG_STREAM_SYSTEM

MAX_BACKOFF_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a log, as the process wrote it: any bytes, lines cut anywhere.

    :param time: nanoseconds since 1970-01-01 UTC.
    :param stream: STDOUT, STDERR or SYSTEM.
    """

    attempt_number: int
    sequence: int
    time: int
    stream: int
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A stretch that was dropped because the log outgrew its budget."""

    attempt_number: int
    first_sequence: int
    last_sequence: int
    bytes: int
    lines: int


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The end of an attempt's log, or of what is there of it where it was not to be followed.

    :param outcome: how the attempt ended; None while it goes on.
    :param another: whether another attempt follows.
    """

    attempt_number: int
    receipt: wire.LogReceipt
    outcome: types_wire.Outcome | None
    another: bool


LogEvent = Chunk | Cut | AttemptEnd


@dataclasses.dataclass(frozen=True, slots=True)
class LogPlace:
    """Where to begin; one of them, or the log's first chunk.

    :param tail: the last so many lines.
    :param ago: seconds.
    """

    attempt: int = 0
    after_sequence: int | None = None
    tail: int | None = None
    since: dt.datetime | None = None
    ago: float | None = None


class LogReader:
    """Reads a job's log.

    :param verify: compare the bytes with the receipt where all of an attempt were seen.
    :param patience: seconds without a connection before it is given up.
    """

    def __init__(
        self,
        stub: log_pb2_grpc.LogStreamServiceAsyncStub,
        job_id: str,
        *,
        place: LogPlace,
        follow: bool,
        streams: Sequence[int],
        metadata: Callable[[], tuple[tuple[str, str], ...]],
        server: str,
        verify: bool,
        patience: float,
        compress: bool,
    ) -> None:
        self._stub = stub
        self._job_id = job_id
        self._place = place
        self._follow = follow
        self._streams = streams
        self._metadata = metadata
        self._server = server
        self._verify = verify and not streams
        self._patience = patience
        self._compress = compress
        self._attempt_uid = ""
        self._number = place.attempt
        self._next: int | None = None
        self._skip = 0
        self._sum = 0
        self._summed_from_start = False
        self._over = False
        self._connected = False

    async def events(self) -> AsyncIterator[LogEvent]:
        """Yield what is in the log, until its end or, followed, the job's."""
        failures, lost_at = 0, 0.0
        loop = asyncio.get_running_loop()
        while not self._over:
            before = (self._attempt_uid, self._next)
            try:
                async for event in self._stream():
                    yield event
                if self._over or (self._attempt_uid, self._next) != before:
                    failures = 0
                    continue
                failure: HodeiError = UnavailableError("the stream ended without an end")
            except aio.AioRpcError as error:
                failure = from_rpc(error, self._server)
                if not _worth_another(error):
                    raise failure from None
            if (self._attempt_uid, self._next) != before or not failures:
                failures, lost_at = 0, loop.time()
            # The first connection must work: a server that isn't there is told at once.
            if not self._connected or loop.time() - lost_at > self._patience:
                raise failure
            failures += 1
            await asyncio.sleep(random.uniform(0.0, min(MAX_BACKOFF_SECONDS, 0.1 * 2.0**failures)))  # noqa: S311 - jitter

    def _request(self) -> wire.StreamLogsRequest:
        request = wire.StreamLogsRequest(
            job_id=self._job_id,
            follow=self._follow,
            streams=[wire.LogStream.ValueType(stream) for stream in self._streams],
            compress=self._compress,
        )
        if self._attempt_uid:
            request.attempt_uid = self._attempt_uid
        elif self._number:
            request.attempt_number = self._number
        place = self._place
        if self._next is not None:
            if self._next:
                request.after_sequence = self._next - 1
        elif place.after_sequence is not None:
            request.after_sequence = place.after_sequence
        elif place.tail is not None:
            request.tail_lines = place.tail
        elif place.since is not None:
            request.since_time.FromDatetime(place.since.astimezone(dt.UTC).replace(tzinfo=None))
        elif place.ago is not None:
            request.since_ago.FromNanoseconds(round(place.ago * 1e9))
        return request

    async def _stream(self) -> AsyncIterator[LogEvent]:
        call = self._stub.StreamLogs(self._request(), metadata=self._metadata())
        try:
            async for response in call:
                kind = response.WhichOneof("event")
                if kind == "block":
                    for chunk in response.block.chunks:
                        event = self._take(chunk)
                        if event is not None:
                            yield event
                elif kind == "start":
                    self._begin(response.start)
                elif kind == "cut":
                    self._next = max(self._next or 0, response.cut.last_sequence + 1)
                    self._summed_from_start = False
                    yield Cut(
                        self._number,
                        response.cut.first_sequence,
                        response.cut.last_sequence,
                        response.cut.bytes,
                        response.cut.lines,
                    )
                elif kind == "end":
                    yield self._end(response.end)
                    return
        finally:
            call.cancel()

    def _begin(self, start: wire.LogStreamStart) -> None:
        if start.attempt_uid != self._attempt_uid or self._next is None:
            self._sum = 0
            self._summed_from_start = start.first_sequence == 0 and not start.skip_bytes
            self._next = start.first_sequence
            self._skip = start.skip_bytes
        self._connected = True
        self._attempt_uid = start.attempt_uid
        self._number = start.attempt_number

    def _take(self, chunk: wire.LogChunk) -> Chunk | None:
        expected = self._next or 0
        if chunk.sequence < expected:
            return None
        if chunk.sequence > expected and not self._streams:
            raise LogGapError(f"chunk {chunk.sequence} came where {expected} belongs")
        self._next = chunk.sequence + 1
        data = chunk.data
        if self._verify and self._summed_from_start:
            self._sum = add_checksums(self._sum, chunk_checksum(chunk.sequence, chunk.stream, data))
        if self._skip:
            data, self._skip = data[self._skip :], 0
        return Chunk(self._number, chunk.sequence, chunk.time_unix_nanos, chunk.stream, data)

    def _end(self, end: wire.LogStreamEnd) -> AttemptEnd:
        receipt = end.receipt
        whole = self._verify and self._summed_from_start and receipt.ended and not receipt.expired
        if whole and receipt.complete and encode_checksum(self._sum) != receipt.checksum:
            raise LogIntegrityError(f"the log of attempt {self._number} is not what its receipt speaks of")
        event = AttemptEnd(self._number, receipt, end.outcome if end.HasField("outcome") else None, end.another_attempt)
        if self._follow and end.another_attempt:
            # `_begin` starts over: the new attempt's stream says where it begins.
            self._attempt_uid, self._number, self._next = "", end.next_attempt_number, None
            self._place = LogPlace()
        else:
            self._over = True
        return event


def _worth_another(error: aio.AioRpcError) -> bool:
    """Whether a broken stream may go on after another try; a plain cancellation comes from a server that ends."""
    return error.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
