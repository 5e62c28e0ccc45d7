"""`LogStreamService`: logs live and from history. A follower owns a cursor and nothing else.

Blocks go out in the bytes the worker encoded: `StreamLogsResponse` messages that carry one are put together by hand,
with the block as a length-delimited field.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from hodei.clock import steady_time_ns
from hodei.encoding import field_prefix
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of
from hodei_logstore.contract import StoredBlock
from hodei_server.domain.errors import InvalidRequestError, ResourceExhaustedError, Violation
from hodei_server.domain.spec import check_duration
from hodei_server.logs.changes import wait_for
from hodei_server.logs.cursor import Cursor, Cut, find_tail, find_time
from hodei_server.metrics.instruments import LOG_SENT
from hodei_server.rpc.log_lookup import AttemptLog, LogLookup
from hodei_server.rpc.requests import MAX_INTEGER, PageTokens, check_time, parse_place, refuse

SERVICE = "hodei.v1.LogStreamService"
#: Seconds of silence after which a follower is told that it is still connected.
HEARTBEAT_SECONDS = 15.0
#: Seconds until a log that is about to be opened is looked at again.
NOT_YET_OPEN_SECONDS = 0.01
DEFAULT_PAGE = 1000
MAX_PAGE = 10_000
#: Far more lines than any log has.
MAX_TAIL_LINES = 1 << 40
PAGE_BYTES = 1 << 20
#: Read at once for a follower: what one that takes nothing more keeps in memory, or one block.
READ_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True, slots=True)
class FollowLimits:
    """How many streams may be open at once."""

    per_job: int
    per_client: int


def block_message(block: bytes) -> bytes:
    """Return an encoded StreamLogsResponse that carries an encoded LogBlock ."""
    return field_prefix(wire.StreamLogsResponse.BLOCK_FIELD_NUMBER, len(block)) + block


def serialize(message: bytes | Message) -> bytes:
    """Encode what is not encoded yet."""
    return message if isinstance(message, bytes) else message.SerializeToString()


class LogService:
    """Serves logs.

    :param compress: compress streams to clients that are not on this machine.
    """

    def __init__(self, lookup: LogLookup, limits: FollowLimits, *, compress: bool) -> None:
        self._lookup = lookup
        self._limits = limits
        self._compress = compress
        self._open: collections.Counter[tuple[str, str]] = collections.Counter()

    @property
    def followers(self) -> int:
        """How many log streams are open."""
        return sum(count for (kind, _), count in self._open.items() if kind == "client")

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the service as gRPC takes it; StreamLogs encodes its answers itself."""
        methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {
            "StreamLogs": grpc.unary_stream_rpc_method_handler(
                self.StreamLogs, wire.StreamLogsRequest.FromString, serialize
            ),
            "GetLogs": grpc.unary_unary_rpc_method_handler(self.GetLogs, wire.GetLogsRequest.FromString, serialize),
            "GetLogReceipt": grpc.unary_unary_rpc_method_handler(
                self.GetLogReceipt, wire.GetLogReceiptRequest.FromString, serialize
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, dict(methods))

    async def StreamLogs(  # noqa: N802 - the wire's name
        self, request: wire.StreamLogsRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes | wire.StreamLogsResponse]:
        """Send a log from a place on, live if asked to."""
        streams = check_streams(request.streams)
        check_place(request)
        peer = context.peer().rpartition(":")[0]
        keys = (("job", request.job_id), ("client", peer))
        for key, limit in zip(keys, (self._limits.per_job, self._limits.per_client), strict=True):
            if self._open[key] >= limit:
                raise ResourceExhaustedError(f"there are {limit} open log streams of this {key[0]} already")
        if request.compress or (self._compress and "127.0.0.1" not in peer and "unix" not in peer):
            context.set_compression(grpc.Compression.Gzip)
        for key in keys:
            self._open[key] += 1
        try:
            async for message in self._stream(request, streams):
                yield message
        finally:
            for key in keys:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]

    async def _stream(
        self, request: wire.StreamLogsRequest, streams: frozenset[wire.LogStream.ValueType]
    ) -> AsyncIterator[bytes | wire.StreamLogsResponse]:
        log = await self._lookup.find(request.job_id, request.attempt_uid, request.attempt_number, wait=request.follow)
        sequence, skip = await self._start(request, log, streams)
        yield wire.StreamLogsResponse(
            start=wire.LogStreamStart(
                job_id=log.job_id,
                attempt_uid=log.attempt_uid,
                attempt_number=log.number,
                first_sequence=sequence,
                skip_bytes=skip,
            )
        )
        cursor = Cursor(self._lookup.book, log.attempt_uid, sequence)
        while True:
            opened = self._lookup.book.get(log.attempt_uid)
            moved = opened.change.next_move() if opened is not None else None
            piece = await cursor.read(READ_BYTES) if log.attempt_uid else ()
            if isinstance(piece, Cut):
                yield wire.StreamLogsResponse(cut=cut_message(piece))
                continue
            if piece:
                for stored in piece:
                    data = stored.data if not streams else only(stored, streams)
                    if data:
                        LOG_SENT.inc(len(data))
                        yield block_message(data)
                continue
            if not request.follow:
                break
            if moved is None:
                # It has ended, or it is about to be opened: its attempt was written down just now.
                state = await self._lookup.look(log)
                if state.receipt.ended and (state.receipt.expired or cursor.sequence >= state.receipt.chunks):
                    yield wire.StreamLogsResponse(end=self._lookup.end(log, state, cursor.sequence))
                    return
                opening = self._lookup.next_move(log.job_id)
                if self._lookup.book.get(log.attempt_uid) is None:
                    await wait_for(opening, NOT_YET_OPEN_SECONDS)
                continue
            if not await wait_for(moved, HEARTBEAT_SECONDS):
                yield wire.StreamLogsResponse(heartbeat=wire.LogStreamHeartbeat(next_sequence=cursor.sequence))
        state = await self._lookup.look(log)
        yield wire.StreamLogsResponse(end=self._lookup.end(log, state, cursor.sequence))

    async def _start(
        self, request: wire.StreamLogsRequest, log: AttemptLog, streams: frozenset[wire.LogStream.ValueType]
    ) -> tuple[int, int]:
        """Return the first sequence to send and how many bytes of it to leave out."""
        place = request.WhichOneof("from")
        if place == "after_sequence":
            return request.after_sequence + 1, 0
        if place is None or not log.attempt_uid:
            return 0, 0
        if place == "tail_lines":
            return await find_tail(self._lookup.book, log.attempt_uid, request.tail_lines, streams)
        if place == "since_time":
            nanos = request.since_time.ToNanoseconds()
        else:
            nanos = steady_time_ns() - request.since_ago.ToNanoseconds()
        return await find_time(self._lookup.book, log.attempt_uid, nanos), 0

    async def GetLogs(  # noqa: N802 - the wire's name
        self,
        request: wire.GetLogsRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - the wire's shape
    ) -> wire.GetLogsResponse:
        """Return a page of history."""
        streams = check_streams(request.streams)
        if not 0 <= request.page_size <= MAX_PAGE:
            raise InvalidRequestError([Violation("page_size", f"lies between 0 and {MAX_PAGE}")])
        tokens = PageTokens(request)
        attempt_uid, _, number = tokens.decode(request.page_token).partition(":")
        sequence = parse_place(number) if attempt_uid else 0
        log = await self._lookup.find(
            request.job_id,
            attempt_uid or request.attempt_uid,
            0 if attempt_uid else request.attempt_number,
            wait=False,
        )
        answer = wire.GetLogsResponse(attempt_uid=log.attempt_uid)
        cursor = Cursor(self._lookup.book, log.attempt_uid, sequence)
        limit, size = request.page_size or DEFAULT_PAGE, 0
        while log.attempt_uid and len(answer.chunks) < limit and size < PAGE_BYTES:
            piece = await cursor.read(PAGE_BYTES - size)
            if isinstance(piece, Cut):
                answer.cuts.append(cut_message(piece))
                sequence = cursor.sequence
                continue
            if not piece:
                break
            for chunk in (chunk for stored in piece for chunk in chunks_of(stored.data)):
                if len(answer.chunks) >= limit or (size and size + len(chunk.data) > PAGE_BYTES):
                    break
                sequence = chunk.sequence + 1
                if not streams or chunk.stream in streams:
                    answer.chunks.append(chunk)
                    size += len(chunk.data)
            else:
                continue
            break
        receipt = await self._lookup.receipt(log)
        if log.attempt_uid and (not receipt.ended or sequence < receipt.chunks) and not receipt.expired:
            answer.next_page_token = tokens.encode(f"{log.attempt_uid}:{sequence}")
        return answer

    async def GetLogReceipt(  # noqa: N802 - the wire's name
        self,
        request: wire.GetLogReceiptRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - the wire's shape
    ) -> wire.GetLogReceiptResponse:
        """Return what a log amounts to."""
        log = await self._lookup.find(request.job_id, request.attempt_uid, request.attempt_number, wait=False)
        return wire.GetLogReceiptResponse(receipt=await self._lookup.receipt(log))


def check_streams(streams: Any) -> frozenset[wire.LogStream.ValueType]:
    """Return the wanted streams; all of them are the same as none named.

    :raise InvalidRequestError: one is unknown.
    """
    for stream in set(streams):
        if stream not in {wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM}:
            raise InvalidRequestError([Violation("streams", f"{stream} is not a stream")])
    wanted = frozenset(streams)
    return frozenset() if len(wanted) == 3 else wanted


def check_place(request: wire.StreamLogsRequest) -> None:
    """Check where a stream is to begin.

    :raise InvalidRequestError: no log has such a place.
    """
    place = request.WhichOneof("from")
    if place == "after_sequence" and request.after_sequence >= MAX_INTEGER:
        raise InvalidRequestError([Violation(place, f"is less than {MAX_INTEGER}")])
    if place == "tail_lines" and not 0 <= request.tail_lines <= MAX_TAIL_LINES:
        raise InvalidRequestError([Violation(place, f"lies between 0 and {MAX_TAIL_LINES}")])
    if place == "since_time":
        check_time(place, request.since_time)
    if place == "since_ago":
        refuse(check_duration(place, request.since_ago, zero=True))


def only(stored: StoredBlock, streams: frozenset[wire.LogStream.ValueType]) -> bytes:
    """Return a block's chunks of some streams, encoded; empty when there are none."""
    chunks = [chunk for chunk in chunks_of(stored.data) if chunk.stream in streams]
    return wire.LogBlock(chunks=chunks).SerializeToString() if chunks else b""


def cut_message(cut: Cut) -> wire.LogCut:
    """Return a cut as the wire tells it."""
    return wire.LogCut(
        first_sequence=cut.first_sequence,
        last_sequence=cut.next_sequence - 1,
        bytes=cut.size,
        lines=cut.lines,
        expired=cut.expired,
    )
