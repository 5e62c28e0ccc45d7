"""A client's channel: whether the server was ever there, the trace that calls belong to, unary calls."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
from collections.abc import AsyncIterator, Callable
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc
from grpc import aio

from hodei.refusals import reason, retry_after
from hodei.transport import open_channel
from hodei.v1 import job_pb2_grpc, log_pb2_grpc, provider_pb2_grpc
from hodei_client.errors import HodeiError, UnavailableError, from_rpc, no_server
from hodei_client.settings import ClientSettings

T = TypeVar("T")

#: Seconds that a first connection may take.
CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
#: How often a call is made, where the server isn't there for a moment.
TRIES = 4
#: What a server says that has as many calls under way as it takes; asked again for as long as a call may take.
TOO_MANY_CALLS = "TOO_MANY_CALLS"
MAX_WAIT_SECONDS = 3.0
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of_environment() -> str:
    """Return the trace that TRACEPARENT (W3C) names, else a new one: 32 hexadecimal digits."""
    given = _TRACEPARENT.fullmatch(os.environ.get("TRACEPARENT", ""))
    return given[1] if given is not None and given[1].strip("0") else secrets.token_hex(16)


class Responses(Generic[T]):
    """A streaming call's answers. An asynchronous context manager, after which the call is over.

    The call and what iterates over it hold each other. Left half-way, both would be there until the garbage collector
    comes by, and with them the connection, even once its channel is closed. Who uses it gives the call no name: the
    frame lives in what is raised there.
    """

    def __init__(self, call: aio.UnaryStreamCall[Any, T]) -> None:
        self._call = call
        self._responses: Any = aiter(call)

    async def __aenter__(self) -> AsyncIterator[T]:
        responses: AsyncIterator[T] = self._responses
        return responses

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is still under way."""
        self._call.cancel()
        await self._responses.aclose()
        if isinstance(exc, asyncio.CancelledError):
            forget_frames(exc)


def forget_frames(cancelled: asyncio.CancelledError) -> None:
    """Have a cancellation forget where it was raised: in gRPC's frames, which hold the call.

    A task that was cancelled keeps it, and a time-out that was made of it does. Whoever has one of them for longer than
    the client would have its connection, too.
    """
    cancelled.__traceback__ = None


class Connection:
    """A channel to a server, and its services.

    :ivar reached: whether the server was ever there; until then a failure is told at once.
    :raise hodei.transport.PlaintextRefusedError: see `open_channel`.
    :raise OSError: a file of the settings can't be read.
    """

    def __init__(self, settings: ClientSettings, trace_id: str) -> None:
        self.server = str(settings.server)
        self.reached = False
        self.trace_id = trace_id
        self.channel = open_channel(settings.server, settings.tls, allow_plaintext=settings.allow_plaintext)
        self.jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(self.channel)
        self.logs: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(self.channel)
        self.providers: provider_pb2_grpc.ProviderServiceAsyncStub = provider_pb2_grpc.ProviderServiceStub(self.channel)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes along with a call."""
        return (("traceparent", f"00-{self.trace_id}-{secrets.token_hex(8)}-01"),)

    def failure(self, error: aio.AioRpcError) -> HodeiError:
        """Return a failed call as an error of this package."""
        return from_rpc(error, self.server, self.trace_id)

    async def reach(self) -> None:
        """Wait until there is a connection, or until it is known that a call fails at once.

        :raise UnavailableError: neither, for `CONNECT_SECONDS`.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while True:
                    state = self.channel.get_state(try_to_connect=True)
                    if state is grpc.ChannelConnectivity.READY:
                        self.reached = True
                        return
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        # The call itself tells why.
                        return
                    await self.channel.wait_for_state_change(state)
        except TimeoutError:
            raise UnavailableError(
                no_server(self.server, f"no answer in {CONNECT_SECONDS:g} s"),
                code=grpc.StatusCode.UNAVAILABLE,
                trace_id=self.trace_id,
            ) from None

    async def call(self, method: Callable[..., Any], request: Any) -> Any:
        """Make a unary call; all of them may be made again, as ids of requests and names of things say what is meant.

        Where the server takes no more calls for the moment, it is made again until `CALL_SECONDS` are over.

        :raise HodeiError: it failed.
        """
        began, failures = monotonic(), 0
        while True:
            asked, crowded = 0.0, False
            try:
                return await self._once(method, request)
            except aio.AioRpcError as error:
                failure = self.failure(error)
                asked, crowded = retry_after(error), reason(error) == TOO_MANY_CALLS
            except UnavailableError as error:
                failure = error
            failures += 1
            if crowded:
                again = monotonic() - began < CALL_SECONDS
            else:
                again = self.reached and failure.code is grpc.StatusCode.UNAVAILABLE and failures < TRIES
            if not again:
                raise failure from None
            most = min(0.1 * 2.0 ** min(failures, 10), MAX_WAIT_SECONDS)
            await asyncio.sleep((asked if crowded else 0.0) + random.uniform(0.0, most))  # noqa: S311 - jitter, not a secret

    async def _once(self, method: Callable[..., Any], request: Any) -> Any:
        # Not in `call`: its frame lives in what it raises, and would keep a failed call, and so the connection.
        await self.reach()
        try:
            return await method(request, timeout=CALL_SECONDS, metadata=self.metadata())
        except asyncio.CancelledError as cancelled:
            forget_frames(cancelled)
            raise
