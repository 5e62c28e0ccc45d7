"""What can go wrong, as programs meet it.

HodeiError
├── InvalidRequestError       `violations` says which fields and why
├── NotFoundError
├── ConflictError             the request_id was used for another job
├── PreconditionError         not in this state, or no provider can do it
├── UnauthenticatedError
├── PermissionDeniedError
├── ResourceExhaustedError    a limit is reached; later may help
├── UnavailableError          no server, or not now
├── ServerError               the server has failed
├── LogGapError               chunks are missing from a log stream, and no cut says so
└── LogIntegrityError         a log's bytes are not those that its receipt speaks of
"""

from __future__ import annotations

import dataclasses
import re

import grpc
from grpc import aio

_DETAILS = "grpc-status-details-bin"
#: Something was there and hung up before anything was said.
_CUT = re.compile(r"failed to connect to all addresses.*(Socket closed|Connection reset|Broken pipe)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request."""

    field: str
    description: str


class HodeiError(Exception):
    """A call has failed.

    :ivar code: gRPC's status code; None where the call itself was fine.
    :ivar trace_id: stands in the server's log lines about the call.
    """

    def __init__(self, message: str, *, code: grpc.StatusCode | None = None, trace_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.trace_id = trace_id
        self.violations: tuple[FieldViolation, ...] = ()


class InvalidRequestError(HodeiError):
    """Fields of the request can't be taken; `violations` has them where the server told them apart."""


class NotFoundError(HodeiError):
    """There is no such thing."""


class ConflictError(HodeiError):
    """It is there already, and another one."""


class PreconditionError(HodeiError):
    """Not in this state, or not with what is there."""


class UnauthenticatedError(HodeiError):
    """The server does not know who calls."""


class PermissionDeniedError(HodeiError):
    """The caller may not do this."""


class ResourceExhaustedError(HodeiError):
    """A limit is reached."""


class UnavailableError(HodeiError):
    """There is no server, or it can't answer now."""


class ServerError(HodeiError):
    """The server has failed, or answers what this client does not understand."""


class LogGapError(HodeiError):
    """Chunks are missing from a log stream."""


class LogIntegrityError(HodeiError):
    """A log's bytes are not those that its receipt speaks of."""


_KINDS: dict[grpc.StatusCode, type[HodeiError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
}


def no_server(server: str, why: str) -> str:
    """Return the message about a server that isn't there."""
    return (
        f"no server at {server}: start one with 'hodei server', or name another with --server or HODEI_SERVER ({why})"
    )


#: What gRPC's words for a failed handshake mean, the first that fits; said of the server at an address.
_HANDSHAKES = (
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED: certificate (?P<why>has expired|is not yet valid)"),
        "the certificate of the server at {server} {why}: whoever runs it must renew it, or set this machine's clock",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED: (?P<why>[^:\n]+)"),
        "the certificate of the server at {server} is not accepted ({why}): is --tls-ca or HODEI_TLS_CA its authority?",
    ),
    (
        re.compile(r"Hostname Verification Check failed|Peer name .* is not in peer certificate"),
        "the certificate of the server at {server} is for another name",
    ),
    (
        re.compile(r"WRONG_VERSION_NUMBER"),
        "the server at {server} does not speak TLS: write http:// and no certificates, or another address",
    ),
    (
        re.compile(r"Failed to create security handshaker|Failed to create secure"),
        "the certificates given for {server} can't be used: see --tls-ca, --tls-cert and --tls-key",
    ),
)


def no_connection(server: str, details: str) -> str:
    """Return the message about a connection that there is none of, from gRPC's own words for it."""
    for pattern, message in _HANDSHAKES:
        found = pattern.search(details)
        if found is not None:
            return message.format(server=server, **found.groupdict())
    first = details.splitlines()[0] if details else "no reason is known"
    if _CUT.search(details):
        if server.startswith("https://"):
            return (
                f"the server at {server} ended the connection: it may want a certificate of its own authority that "
                f"is still valid (--tls-cert and --tls-key, or HODEI_TLS_CERT and HODEI_TLS_KEY) ({first})"
            )
        return f"the server at {server} ended the connection: it may want TLS; write https:// ({first})"
    return no_server(server, first)


def from_rpc(error: aio.AioRpcError, server: str, trace_id: str = "") -> HodeiError:
    """Return a failed call as one of this module's errors.

    :param server: the address, for the message of a server that isn't there.
    :param trace_id: the call's own, where the answer names none.
    """
    kind = _KINDS.get(error.code(), ServerError)
    message = error.details() or error.code().name
    trailing = dict(error.trailing_metadata() or ())
    trace_id = str(trailing.get("trace-id", trace_id))
    if not trailing and error.code() is grpc.StatusCode.UNAVAILABLE:
        message = no_connection(server, message)
    elif not trailing and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"the server at {server} did not answer in time"
    elif not trailing and error.code() is grpc.StatusCode.UNIMPLEMENTED:
        message = (
            f"the server at {server} does not know this call: it is no Hodei server, an older one, or the address is "
            f"not the one for clients (HODEI_LISTEN of the server) ({message})"
        )
    result = kind(message, code=error.code(), trace_id=trace_id)
    details = trailing.get(_DETAILS)
    if isinstance(details, bytes):
        result.violations = tuple(_violations(details))
    return result


def _violations(details: bytes) -> list[FieldViolation]:
    """Read the field violations of a `google.rpc.Status`, where the package that knows it is installed."""
    try:
        from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # noqa: PLC0415 - optional
    except ImportError:
        return []
    found = []
    for detail in status_pb2.Status.FromString(details).details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            found += [FieldViolation(each.field, each.description) for each in request.field_violations]
    return found
