"""The first message of a worker's connection."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from hodei.v1 import worker_pb2 as wire
from hodei_server.domain.errors import InvalidRequestError, Violation
from hodei_server.domain.spec import check_text
from hodei_server.rpc.requests import refuse
from hodei_server.rpc.worker_words import check_held, check_protocol

#: Seconds a new connection has for its hello.
HELLO_SECONDS = 30.0


async def read_hello(context: aio.ServicerContext[Any, Any]) -> wire.WorkerHello:
    """Wait for a worker's hello, and check what it says.

    :raise InvalidRequestError: it does not come in time, is something else, or says what can't be.
    """
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            message: Any = await context.read()
    except TimeoutError:
        raise InvalidRequestError([Violation("hello", "did not come in time")]) from None
    if isinstance(message, InvalidRequestError):
        raise message
    if not isinstance(message, wire.ConnectRequest) or message.WhichOneof("message") != "hello":
        raise InvalidRequestError([Violation("hello", "must be the first message of a connection")])
    hello: wire.WorkerHello = message.hello
    violations = [*check_text("hello.worker_version", hello.worker_version, 64)]
    if hello.time_unix_nanos < 0:
        violations.append(Violation("hello.time_unix_nanos", "must not be negative"))
    refuse([*violations, *check_protocol("hello.", hello), *check_held(hello.attempts)])
    return hello
