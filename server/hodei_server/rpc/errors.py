"""The one place where what the server refuses becomes a gRPC status, with `google.rpc` details."""

from __future__ import annotations

import datetime as dt
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs

from hodei_logstore.contract import LogStoreError, StorageFullError
from hodei_server.db.database import DatabaseUnavailableError
from hodei_server.domain.errors import (
    ConflictError,
    HodeiServerError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)

DOMAIN = "hodei"
#: After a failure of the database or of the log store.
RETRY_SECONDS = 1.0
DETAILS_KEY = "grpc-status-details-bin"
#: An answer's trailing metadata holds 8 KiB in all; a refusal that is longer would not arrive as what it is.
MAX_VIOLATIONS = 12
MAX_TEXT = 120
MAX_MESSAGE = 1200

_CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ConflictError: grpc.StatusCode.ALREADY_EXISTS,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LogStoreError: grpc.StatusCode.UNAVAILABLE,
    DatabaseUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: Exception, trace_id: str) -> tuple[grpc.StatusCode, str, bytes] | None:
    """Return an error's code, message and encoded `google.rpc.Status`; None for one that nobody foresaw.

    :param trace_id: stands in the details, for whoever looks into the server's log.
    """
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), None)
    if code is None:
        return None
    reason = error.reason if isinstance(error, HodeiServerError) else "STORAGE"
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"trace_id": trace_id})
    ]
    if isinstance(error, InvalidRequestError):
        request = error_details_pb2.BadRequest()
        for violation in error.violations[:MAX_VIOLATIONS]:
            request.field_violations.add(field=shorten(violation.field), description=shorten(violation.description))
        details.append(request)
    if isinstance(error, ResourceExhaustedError):
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject="server", description=shorten(str(error)))
        details.append(failure)
    if code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
        delay = error.retry_after if isinstance(error, (ResourceExhaustedError, UnavailableError)) else RETRY_SECONDS
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(dt.timedelta(seconds=delay))
        details.append(retry)
    message = shorten(str(error), MAX_MESSAGE)
    return code, message, encode_status(code, message, details)


def shorten(text: str, most: int = MAX_TEXT) -> str:
    """Return a text that is not longer than it may be, in bytes as a header carries them."""
    while len(quote(text)) > most:
        text = text[: min(len(text) - 2, most)] + "…"
    return text


def encode_status(code: grpc.StatusCode, message: str, details: list[Message]) -> bytes:
    """Return a `google.rpc.Status` as it goes into the trailing metadata."""
    number: int = code.value[0]
    packed = []
    for detail in details:
        wrapper = AnyMessage()
        wrapper.Pack(detail)
        packed.append(wrapper)
    encoded: bytes = status_pb2.Status(code=number, message=message, details=packed).SerializeToString()
    return encoded
