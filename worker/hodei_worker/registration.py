"""How a worker gets its session: for its one-time token, asked for until there is a server."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import grpc
from grpc import aio

import hodei
from hodei.v1 import worker_pb2 as wire
from hodei.v1 import worker_pb2_grpc
from hodei_worker.backoff import Backoff
from hodei_worker.settings import WorkerSettings

_log = logging.getLogger("hodei.worker")

PROTOCOL_VERSION = 2
REGISTER_SECONDS = 10.0

#: What a server answers that will not have this worker.
REFUSALS = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class SessionOverError(Exception):
    """The server will not have this worker any more."""


async def register(
    stub: worker_pb2_grpc.WorkerServiceAsyncStub | worker_pb2_grpc.WorkerServiceStub,
    settings: WorkerSettings,
    backoff: Backoff,
    *,
    wanted: Callable[[], bool],
) -> str | None:
    """Return the session's token; None where no server was found for too long, or none is wanted any more.

    :raise SessionOverError: the server will not have it.
    """
    request = wire.RegisterRequest(
        worker_id=settings.worker_id,
        otp=settings.otp,
        nonce=os.urandom(16),
        protocol_version=PROTOCOL_VERSION,
        worker_version=hodei.__version__,
    )
    deadline = time.monotonic() + settings.server_gone_timeout
    while wanted():
        try:
            response: wire.RegisterResponse = await stub.Register(request, timeout=REGISTER_SECONDS)  # type: ignore[misc]  # one stub class serves both kinds of channel
        except aio.AioRpcError as error:
            if error.code() in REFUSALS:
                raise SessionOverError(error.details() or error.code().name) from None
            _log.warning("can't register yet: %s", error.details())
            if time.monotonic() > deadline:
                _log.error("no server at %s for too long", settings.server)
                return None
            await backoff.wait(error)
        else:
            backoff.succeeded()
            return response.session_token
    return None
