"""`LogStreamService`: logs live and from history. A follower owns a cursor and nothing else.

Blocks go out in the bytes the worker encoded: `StreamLogsResponse` messages that carry one are put together by hand,
with the block as a length-delimited field.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from hodei.encoding import field_prefix
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of
from hodei_logstore.contract import StoredBlock
from hodei_server.instruments import LOG_SENT
from hodei_server.logs.cursor import Cursor, Cut
from hodei_server.logs.retention import Retention
from hodei_server.rpc.log_lookup import LogLookup
from hodei_server.rpc.log_page import get_page
from hodei_server.rpc.log_prune import prune_logs
from hodei_server.rpc.log_reading import (
    Streams,
    check_range,
    check_streams,
    cut_message,
    find_end,
    find_start,
    read_log,
    start_message,
)
from hodei_server.rpc.log_search import check_search, search_log
from hodei_server.rpc.log_verify import verify_logs
from hodei_server.rpc.open_streams import Bound, OpenStreams, peer_of

SERVICE = "hodei.v1.LogStreamService"


@dataclasses.dataclass(frozen=True, slots=True)
class FollowLimits:
    """How many streams may be open at once."""

    in_all: int
    per_job: int
    per_client: int


def block_message(blocks: Sequence[bytes]) -> bytes:
    """Return an encoded StreamLogsResponse that carries encoded LogBlocks as one: their chunks, one after the other."""
    size = sum(map(len, blocks))
    return b"".join((field_prefix(wire.StreamLogsResponse.BLOCK_FIELD_NUMBER, size), *blocks))


def serialize(message: bytes | Message) -> bytes:
    """Encode what is not encoded yet."""
    return message if isinstance(message, bytes) else message.SerializeToString()


class LogService:
    """Serves logs.

    :param compress: compress streams to clients that are not on this machine.
    """

    def __init__(self, lookup: LogLookup, retention: Retention, limits: FollowLimits, *, compress: bool) -> None:
        self._lookup = lookup
        self._retention = retention
        self._limits = limits
        self._compress = compress
        self._open = OpenStreams("log streams")

    @property
    def followers(self) -> int:
        """How many log streams are open."""
        return self._open.count("server")

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
            "SearchLogs": grpc.unary_stream_rpc_method_handler(
                self.SearchLogs, wire.SearchLogsRequest.FromString, serialize
            ),
            "PruneLogs": grpc.unary_stream_rpc_method_handler(
                self.PruneLogs, wire.PruneLogsRequest.FromString, serialize
            ),
            "VerifyLogs": grpc.unary_stream_rpc_method_handler(
                self.VerifyLogs, wire.VerifyLogsRequest.FromString, serialize
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, dict(methods))

    async def StreamLogs(  # noqa: N802 - the wire's name
        self, request: wire.StreamLogsRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes | wire.StreamLogsResponse]:
        """Send a log from a place on, live if asked to."""
        streams = check_streams(request.streams)
        check_range(request)
        peer = peer_of(context)
        if request.compress or (self._compress and "127.0.0.1" not in peer and "unix" not in peer):
            context.set_compression(grpc.Compression.Gzip)
        with self._counted(request.job_id, peer):
            async for message in self._stream(request, streams):
                yield message

    def _counted(self, job_id: str, peer: str) -> contextlib.AbstractContextManager[None]:
        """Count an open stream.

        :param job_id: empty where it is of no job, or of many.
        :raise ResourceExhaustedError: there are too many already.
        """
        limits = self._limits
        of_all, of_client = Bound("server", "", limits.in_all), Bound("client", peer, limits.per_client)
        of_job = [Bound("job", job_id, limits.per_job)] if job_id else []
        return self._open.counted(of_all, of_client, *of_job)

    async def _stream(
        self, request: wire.StreamLogsRequest, streams: Streams
    ) -> AsyncIterator[bytes | wire.StreamLogsResponse]:
        log = await self._lookup.find(request.job_id, request.attempt_uid, request.attempt_number, wait=request.follow)
        sequence, skip = await find_start(self._lookup, request, log, streams)
        end = await find_end(self._lookup, request, log)
        yield wire.StreamLogsResponse(start=start_message(log, sequence, skip))
        cursor = Cursor(self._lookup.book, log.attempt_uid, sequence)
        async for piece in read_log(self._lookup, log, cursor, follow=request.follow, end=end):
            if piece is None:
                yield wire.StreamLogsResponse(heartbeat=wire.LogStreamHeartbeat(next_sequence=cursor.sequence))
            elif isinstance(piece, Cut):
                yield wire.StreamLogsResponse(cut=cut_message(piece))
            elif isinstance(piece, wire.LogStreamEnd):
                yield wire.StreamLogsResponse(end=piece)
            else:
                message = self._message(piece, streams)
                # While it is on its way to a client that takes its time, nothing else of it is kept.
                del piece
                if message:
                    yield message

    @staticmethod
    def _message(piece: Sequence[StoredBlock], streams: Streams) -> bytes:
        """Return what was read as it is sent; empty where nothing of it is of the wanted streams."""
        blocks = [stored.data if not streams else only(stored, streams) for stored in piece]
        LOG_SENT.inc(sum(map(len, blocks)))
        return block_message(blocks) if any(blocks) else b""

    async def GetLogs(  # noqa: N802 - the wire's name
        self,
        request: wire.GetLogsRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - the wire's shape
    ) -> wire.GetLogsResponse:
        """Return a page of history."""
        return await get_page(self._lookup, request)

    async def GetLogReceipt(  # noqa: N802 - the wire's name
        self,
        request: wire.GetLogReceiptRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002 - the wire's shape
    ) -> wire.GetLogReceiptResponse:
        """Return what a log amounts to."""
        log = await self._lookup.find(request.job_id, request.attempt_uid, request.attempt_number, wait=False)
        return wire.GetLogReceiptResponse(receipt=await self._lookup.receipt(log))

    async def SearchLogs(  # noqa: N802 - the wire's name
        self, request: wire.SearchLogsRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.SearchLogsResponse]:
        """Send the lines that match a pattern."""
        pattern, streams = check_search(request)
        with self._counted(request.job_id, peer_of(context)):
            async for message in search_log(self._lookup, request, pattern, streams):
                yield message

    async def VerifyLogs(  # noqa: N802 - the wire's name
        self, request: wire.VerifyLogsRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.VerifyLogsResponse]:
        """Read logs and compare them with their receipts."""
        with self._counted(request.job_id, peer_of(context)):
            async for message in verify_logs(self._lookup, request):
                yield message

    async def PruneLogs(  # noqa: N802 - the wire's name
        self,
        request: wire.PruneLogsRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[wire.PruneLogsResponse]:
        """Remove what has expired, or tell what would go."""
        with self._counted("", peer_of(context)):
            async for message in prune_logs(self._retention, request):
                yield message


def only(stored: StoredBlock, streams: frozenset[wire.LogStream.ValueType]) -> bytes:
    """Return a block's chunks of some streams, encoded; empty when there are none."""
    chunks = [chunk for chunk in chunks_of(stored.data) if chunk.stream in streams]
    return wire.LogBlock(chunks=chunks).SerializeToString() if chunks else b""
