"""Following a log: one attempt after the other, over any number of broken connections, each chunk once and in order."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from grpc import aio

from hodei.checksum import encode_checksum
from hodei.v1 import log_pb2 as wire
from hodei.v1 import log_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client.connection import Connection, Responses
from hodei_client.endurance import Endurance
from hodei_client.errors import HodeiError, LogGapError, LogIntegrityError, NotFoundError, UnavailableError
from hodei_client.summing import ChunkSum

STDOUT: wire.LogStream.ValueType = wire.LOG_STREAM_STDOUT
STDERR: wire.LogStream.ValueType = wire.LOG_STREAM_STDERR
SYSTEM: wire.LogStream.ValueType = wire.LOG_STREAM_SYSTEM


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
    """A stretch that is not kept any more: the log outgrew its budget or, `expired`, its time to live has passed."""

    attempt_number: int
    first_sequence: int
    last_sequence: int
    bytes: int
    lines: int
    expired: bool = False


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
    :param until: where to end: with the last chunk that is no younger; `until_ago` in seconds. Not when following.
    """

    attempt: int = 0
    after_sequence: int | None = None
    tail: int | None = None
    since: dt.datetime | None = None
    ago: float | None = None
    until: dt.datetime | None = None
    until_ago: float | None = None


class AttemptsReader(abc.ABC):
    """Reads one attempt's log after the other, over any number of broken connections.

    :param patience: seconds without a connection before it is given up.
    """

    def __init__(
        self,
        stub: log_pb2_grpc.LogStreamServiceAsyncStub,
        connection: Connection,
        job_id: str,
        *,
        place: LogPlace,
        follow: bool,
        streams: Sequence[int],
        patience: float,
    ) -> None:
        self._stub = stub
        self._connection = connection
        self._job_id = job_id
        self._place = place
        self._follow = follow
        self._streams = [wire.LogStream.ValueType(stream) for stream in streams]
        self._attempt_uid = ""
        self._number = place.attempt
        # The attempt that is read follows another one: it was promised by that one's end, and may not come.
        self._promised = False
        self._over = False
        self._endurance = Endurance(patience)

    async def events(self) -> AsyncIterator[Any]:
        """Yield what is in the log, until its end or, followed, the job's."""
        connection = self._connection
        while not self._over:
            self._endurance.opening()
            ended = False
            try:
                await connection.reach()
                async with contextlib.aclosing(self._stream()) as stream:
                    async for event in stream:
                        ended = isinstance(event, AttemptEnd)
                        yield event
                if ended:
                    continue
                failure: HodeiError = UnavailableError("the log stream broke off without its end")
            except aio.AioRpcError as error:
                failure = connection.failure(error)
                if self._promised and isinstance(failure, NotFoundError):
                    # The job ended before the attempt that might have followed.
                    return
            except UnavailableError as error:
                failure = error
            await self._endurance.endure(failure, reached=connection.reached)

    @abc.abstractmethod
    def _stream(self) -> AsyncGenerator[Any, None]:
        """Read from one connection; the last event is an AttemptEnd unless it broke."""

    def _name(self, request: wire.StreamLogsRequest | wire.SearchLogsRequest) -> None:
        """Say which attempt is meant."""
        if self._attempt_uid:
            request.attempt_uid = self._attempt_uid
        elif self._number:
            request.attempt_number = self._number

    def _enter(self, start: wire.LogStreamStart) -> None:
        self._promised = False
        self._attempt_uid = start.attempt_uid
        self._number = start.attempt_number

    def _leave(self, end: wire.LogStreamEnd) -> AttemptEnd:
        """Turn to the attempt that follows, if one does."""
        outcome = end.outcome if end.HasField("outcome") else None
        event = AttemptEnd(self._number, end.receipt, outcome, end.another_attempt)
        if self._follow and end.another_attempt:
            self._attempt_uid, self._number = "", end.next_attempt_number
            self._place = LogPlace()
            self._promised = True
        else:
            self._over = True
        return event


def set_place(request: wire.StreamLogsRequest | wire.SearchLogsRequest, place: LogPlace) -> None:
    """Write where to begin and to end into a request."""
    if place.after_sequence is not None:
        request.after_sequence = place.after_sequence
    elif place.tail is not None:
        request.tail_lines = place.tail
    elif place.since is not None:
        request.since_time.FromDatetime(place.since.astimezone(dt.UTC).replace(tzinfo=None))
    elif place.ago is not None:
        request.since_ago.FromNanoseconds(round(place.ago * 1e9))
    set_until(request, place)


def set_until(request: wire.StreamLogsRequest | wire.SearchLogsRequest, place: LogPlace) -> None:
    """Write where to end into a request."""
    if place.until is not None:
        request.until_time.FromDatetime(place.until.astimezone(dt.UTC).replace(tzinfo=None))
    elif place.until_ago is not None:
        request.until_ago.FromNanoseconds(round(place.until_ago * 1e9))


class LogReader(AttemptsReader):
    """Reads a job's log.

    :param verify: compare the bytes with the receipt where all of an attempt were seen.
    """

    def __init__(self, *arguments: Any, verify: bool, compress: bool, **more: Any) -> None:
        super().__init__(*arguments, **more)
        bounded = self._place.until is not None or self._place.until_ago is not None
        self._verify = verify and not self._streams and not bounded
        self._compress = compress
        # The next chunk's sequence; None before the attempt's first stream has said where it begins.
        self._next: int | None = None
        self._skip = 0
        self._sum = ChunkSum()
        self._summed_from_start = False

    def _request(self) -> wire.StreamLogsRequest:
        request = wire.StreamLogsRequest(
            job_id=self._job_id, follow=self._follow, streams=self._streams, compress=self._compress
        )
        self._name(request)
        if self._next is None:
            set_place(request, self._place)
        else:
            if self._next:
                request.after_sequence = self._next - 1
            set_until(request, self._place)
        return request

    async def _stream(self) -> AsyncGenerator[LogEvent, None]:
        request, metadata = self._request(), self._connection.metadata()
        async with Responses(self._stub.StreamLogs(request, metadata=metadata)) as responses:
            async for response in responses:
                kind = response.WhichOneof("event")
                if kind == "start":
                    # Alone it is no sign of health: a log that can't be read begins like any other.
                    self._begin(response.start)
                    continue
                self._endurance.served()
                if kind == "block":
                    chunks = [chunk for chunk in map(self._take, response.block.chunks) if chunk is not None]
                    if self._verify and self._summed_from_start:
                        await self._sum.add([(chunk.sequence, chunk.stream, chunk.data) for chunk in chunks])
                    for chunk in chunks:
                        yield chunk
                elif kind == "cut":
                    cut = self._pass(response.cut)
                    if cut is not None:
                        yield cut
                elif kind == "end":
                    yield self._end(response.end, await self._sum.total())
                    return

    def _begin(self, start: wire.LogStreamStart) -> None:
        if start.attempt_uid != self._attempt_uid or self._next is None:
            self._sum = ChunkSum()
            self._summed_from_start = start.first_sequence == 0 and not start.skip_bytes
            self._next = start.first_sequence
            self._skip = start.skip_bytes
        self._enter(start)

    def _take(self, chunk: wire.LogChunk) -> Chunk | None:
        expected = self._next or 0
        if chunk.sequence < expected:
            return None
        if chunk.sequence > expected and not self._streams:
            raise LogGapError(f"chunk {chunk.sequence} came where {expected} belongs")
        self._next = chunk.sequence + 1
        data = chunk.data
        if self._skip:
            data, self._skip = data[self._skip :], 0
        return Chunk(self._number, chunk.sequence, chunk.time_unix_nanos, chunk.stream, data)

    def _pass(self, cut: wire.LogCut) -> Cut | None:
        expected = self._next or 0
        if cut.last_sequence < expected:
            return None
        if cut.first_sequence > expected and not self._streams:
            raise LogGapError(f"a cut begins with chunk {cut.first_sequence} where {expected} belongs")
        self._next = cut.last_sequence + 1
        self._skip = 0
        self._summed_from_start = False
        return Cut(self._number, cut.first_sequence, cut.last_sequence, cut.bytes, cut.lines, cut.expired)

    def _end(self, end: wire.LogStreamEnd, checksum: int) -> AttemptEnd:
        receipt = end.receipt
        expected = self._next or 0
        if end.next_sequence > expected and not self._streams:
            raise LogGapError(f"the log ends before chunk {end.next_sequence} where {expected} belongs")
        whole = self._verify and self._summed_from_start and receipt.ended and not receipt.expired
        if whole and receipt.complete and encode_checksum(checksum) != receipt.checksum:
            raise LogIntegrityError(f"the log of attempt {self._number} is not what its receipt speaks of")
        event = self._leave(end)
        if not self._over:
            # `_begin` starts over: the new attempt's stream says where it begins.
            self._next = None
        return event
