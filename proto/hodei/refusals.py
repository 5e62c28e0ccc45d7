"""What a refusal's `google.rpc` details say, for who has not the package with their classes: workers and clients."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc import aio

_DETAILS = "grpc-status-details-bin"


def retry_after(error: aio.AioRpcError) -> float:
    """Return the seconds of a refusal's `google.rpc.RetryInfo`; 0 where it has none that can be read."""
    try:
        for delay in _of_detail(error, "RetryInfo", 1):
            return max(Duration.FromString(delay).ToTimedelta().total_seconds(), 0.0)
    except (DecodeError, ValueError, OverflowError):
        pass
    return 0.0


def reason(error: aio.AioRpcError) -> str:
    """Return the reason in a refusal's `google.rpc.ErrorInfo`; empty where it has none that can be read."""
    try:
        for name in _of_detail(error, "ErrorInfo", 1):
            return name.decode()
    except (DecodeError, ValueError):
        pass
    return ""


def _of_detail(error: aio.AioRpcError, kind: str, number: int) -> Iterator[bytes]:
    """Yield the fields of a number in those details that are of a kind."""
    details = dict(error.trailing_metadata() or ()).get(_DETAILS)
    # A google.rpc.Status, by numbers.
    for packed in _fields(details, 3) if isinstance(details, bytes) else ():
        detail = AnyMessage.FromString(packed)
        if detail.type_url == f"type.googleapis.com/google.rpc.{kind}":
            yield from _fields(detail.value, number)


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the length-delimited fields of a number."""
    unknown = UnknownFieldSet(Empty.FromString(message))
    for place in range(len(unknown)):
        field = unknown[place]
        if field.field_number == number and isinstance(field.data, bytes):
            yield field.data
