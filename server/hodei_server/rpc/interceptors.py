"""What happens around every call: its trace, its caller, and what becomes of its errors."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from grpc import aio

from hodei.transport import MAX_MESSAGE_BYTES
from hodei_server.domain.errors import InvalidRequestError, Violation
from hodei_server.domain.spec import unknown_fields
from hodei_server.rpc.calls import Calls
from hodei_server.rpc.context import ANONYMOUS, accept_traceparent, enter, trace_id_of
from hodei_server.rpc.errors import DETAILS_KEY, MAX_VIOLATIONS, status_of
from hodei_server.rpc.worker_words import newer_worker

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

Context = aio.ServicerContext[Any, Any]
#: Counts a call with this request, or refuses it.
Begin = Callable[[Any, Context], None]


class CallInterceptor(aio.ServerInterceptor):
    """Wraps every handler: unary and streaming, generated and written by hand.

    :param calls: counts calls of Hodei's own services; health is told however many there are.
    """

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler with the wrapping around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        factories: dict[tuple[bool, bool], Callable[..., Any]] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        kinds = {
            (False, False): handler.unary_unary,
            (False, True): handler.unary_stream,
            (True, False): handler.stream_unary,
            (True, True): handler.stream_stream,
        }
        shape = (handler.request_streaming, handler.response_streaming)
        function = kinds[shape]
        decode, begin = handler.request_deserializer, _uncounted
        if method.startswith("/hodei."):
            decode = _decoding(decode)
            if self._calls is not None and not handler.request_streaming:
                begin = partial(self._calls.begin, unary=not handler.response_streaming)
        wrap = _yielding if inspect.isasyncgenfunction(function) else _awaiting
        wrapped = wrap(function, method, begin)
        return factories[shape](wrapped, decode, handler.response_serializer)


def _decoding(decode: Callable[[bytes], Message]) -> Callable[[bytes], Message | InvalidRequestError]:
    """Return what hands on a request that is too large, no message or has unknown fields, as the error that it is."""

    def read(data: bytes) -> Message | InvalidRequestError:
        if len(data) > MAX_MESSAGE_BYTES:
            return InvalidRequestError([Violation("request", f"has {len(data)} bytes, {MAX_MESSAGE_BYTES} at most")])
        try:
            message = decode(data)
        except DecodeError:
            return InvalidRequestError([Violation("request", "can't be decoded as what this call takes")])
        unknown = list(itertools.islice(unknown_fields(message), MAX_VIOLATIONS))
        return InvalidRequestError([*newer_worker(message), *unknown]) if unknown else message

    return read


def _uncounted(request: Any, context: Context) -> None:
    """Count nothing."""


def _readable(request: Any) -> Any:
    """Return a request.

    :raise InvalidRequestError: it could not be read.
    """
    if isinstance(request, InvalidRequestError):
        raise request
    return request


def _awaiting(
    function: Callable[..., Awaitable[Any]], method: str, begin: Begin
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(request: Any, context: Context) -> Any:
        trace_id = _enter(context, method)
        try:
            begin(_readable(request), context)
            return await function(request, context)
        except Exception as error:  # noqa: BLE001 - every error gets its status, or is logged
            await _abort(context, error, trace_id)

    return call


def _yielding(function: Callable[..., AsyncIterator[Any]], method: str, begin: Begin) -> Callable[[Any, Context], Any]:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        trace_id = _enter(context, method)
        try:
            begin(_readable(request), context)
            async for response in function(request, context):
                yield response
        except Exception as error:  # noqa: BLE001 - every error gets its status, or is logged
            await _abort(context, error, trace_id)

    return call


def _enter(context: Context, method: str) -> str:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    traceparent = accept_traceparent(metadata.get("traceparent", ""))
    enter(_principal_of(context), traceparent)
    trace_id = trace_id_of(traceparent)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(trace_id=trace_id, rpc=method.rpartition("/")[2])
    return trace_id


def _principal_of(context: Context) -> str:
    """Return the name in the client's certificate: the first alternative name, else the common name."""
    auth = context.auth_context() or {}
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        values = auth.get(key)
        if values:
            return bytes(next(iter(values))).decode(errors="replace")[:256]
    return ANONYMOUS


async def _abort(context: Context, error: Exception, trace_id: str) -> None:
    if isinstance(error, (aio.AbortError, asyncio.CancelledError)):
        raise error
    status = status_of(error, trace_id)
    if status is None:
        _log.error("rpc.failed", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"the server has failed; its log tells more (trace {trace_id})")
    else:
        code, message, details = status
        await context.abort(code, message, trailing_metadata=((DETAILS_KEY, details), ("trace-id", trace_id)))
