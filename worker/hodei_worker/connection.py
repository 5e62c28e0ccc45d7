"""One connection of a worker's session: what is said on it, in both directions."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc import aio

from hodei.encoding import field_prefix
from hodei.v1 import worker_pb2 as wire
from hodei_worker.attempt import Attempt

_log = logging.getLogger("hodei.worker")

#: Intervals of silence after which a connection is given up.
SILENT_INTERVALS = 3


class ConnectionLostError(Exception):
    """The connection has broken; the session goes on with another."""


def open_stream(
    channel: aio.Channel, token: str
) -> aio.StreamStreamCall[wire.ConnectRequest | bytes, wire.ConnectResponse]:
    """Open a session's stream; messages may be written encoded.

    :param token: the session's.
    """
    connect: aio.StreamStreamMultiCallable[wire.ConnectRequest | bytes, wire.ConnectResponse] = channel.stream_stream(
        "/hodei.v1.WorkerService/Connect",
        request_serializer=_serialize,
        response_deserializer=wire.ConnectResponse.FromString,
    )
    return connect(metadata=(("authorization", f"Bearer {token}"),))


def _serialize(message: wire.ConnectRequest | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def log_message(attempt_uid: str, epoch: int, block: bytes) -> bytes:
    """Return an encoded ConnectRequest that carries an encoded LogBlock."""
    # The block is the last field of LogBlocks.
    head = wire.LogBlocks(attempt_uid=attempt_uid, epoch=epoch).SerializeToString()
    head += field_prefix(wire.LogBlocks.BLOCK_FIELD_NUMBER, len(block))
    return b"".join((field_prefix(wire.ConnectRequest.LOG_FIELD_NUMBER, len(head) + len(block)), head, block))


def batch_message(messages: Sequence[bytes]) -> bytes:
    """Return one encoded ConnectRequest for several of them."""
    if len(messages) == 1:
        return messages[0]
    parts = []
    for message in messages:
        parts += [field_prefix(wire.ConnectBatch.MESSAGES_FIELD_NUMBER, len(message)), message]
    body = b"".join(parts)
    return field_prefix(wire.ConnectRequest.BATCH_FIELD_NUMBER, len(body)) + body


class Connection:
    """Sends what waits and hands on what arrives, until it breaks.

    :param handle: takes each message of the server.
    """

    def __init__(
        self,
        stream: aio.StreamStreamCall[wire.ConnectRequest | bytes, wire.ConnectResponse],
        handle: Callable[[wire.ConnectResponse], None],
        attempt: Callable[[], Attempt | None],
        wake: asyncio.Event,
    ) -> None:
        self._stream = stream
        self._handle = handle
        self._attempt = attempt
        self._wake = wake
        self._messages: collections.deque[wire.ConnectRequest] = collections.deque()
        self._heard_at = time.monotonic()
        self._started_sent = ""
        self._result_sent = ""
        self._finishing = False

    def send(self, message: wire.ConnectRequest) -> None:
        """Put a message on its way."""
        self._messages.append(message)
        self._wake.set()

    def finish(self) -> None:
        """End the stream once everything was sent."""
        self._finishing = True
        self._wake.set()

    async def greet(self, hello: wire.WorkerHello, timeout: float) -> wire.ServerWelcome:  # noqa: ASYNC109 - a bound
        """Say hello and wait for the welcome.

        :raise ConnectionLostError: there was none in time, or something else came.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._stream.write(wire.ConnectRequest(hello=hello))
                message: Any = await self._stream.read()
        except TimeoutError:
            raise ConnectionLostError("the server did not answer") from None
        except (aio.UsageError, asyncio.InvalidStateError):
            await self._raise_status()
        if message is grpc.aio.EOF:
            await self._raise_status()
        if message.WhichOneof("message") == "closed":
            self._handle(message)
        if message.WhichOneof("message") != "welcome":
            raise ConnectionLostError("the server did not say welcome")
        self._heard_at = time.monotonic()
        return message.welcome  # type: ignore[no-any-return]  # EOF and messages share a result type

    async def serve(self, ping_interval: float) -> None:
        """Be connected until the stream ends.

        :raise aio.AioRpcError: with the status the server ended it with.
        :raise ConnectionLostError: the server was silent for too long, or ended the stream in order.
        """
        tasks = [
            asyncio.create_task(self._send_all(), name="send"),
            asyncio.create_task(self._receive(), name="receive"),
            asyncio.create_task(self._ping(ping_interval), name="ping"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stream.cancel()

    async def _send_all(self) -> None:
        while True:
            self._wake.clear()
            while self._messages:
                await self._write(self._messages.popleft())
            attempt = self._attempt()
            if attempt is not None and not attempt.abandoned:
                if attempt.held_back > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(attempt.held_back):
                            await self._wake.wait()
                    continue
                if await self._send_attempt(attempt):
                    continue
            if self._finishing and not self._messages:
                await self._stream.done_writing()
                await asyncio.sleep(5)  # the server answers by ending the stream; if it doesn't, neither do we wait
                return
            if not self._messages:
                await self._wake.wait()

    async def _send_attempt(self, attempt: Attempt) -> bool:
        """Send what comes next of an attempt; False when there is nothing for now."""
        messages: list[bytes] = []
        if attempt.started is not None and self._started_sent != attempt.uid:
            self._started_sent = attempt.uid
            messages.append(wire.ConnectRequest(started=attempt.started).SerializeToString())
        block = attempt.outbox.take()
        if block is not None:
            messages.append(log_message(attempt.uid, attempt.epoch, block.data))
        if attempt.result is not None and self._result_sent != attempt.uid and attempt.outbox.everything_sent:
            self._result_sent = attempt.uid
            messages.append(wire.ConnectRequest(result=attempt.result).SerializeToString())
        if not messages:
            return False
        await self._write(batch_message(messages))
        return True

    async def _write(self, message: wire.ConnectRequest | bytes) -> None:
        try:
            await self._stream.write(message)
        except (aio.UsageError, asyncio.InvalidStateError):
            await self._raise_status()

    async def _receive(self) -> None:
        while True:
            message: Any = await self._stream.read()
            if message is grpc.aio.EOF:
                await self._raise_status()
            self._heard_at = time.monotonic()
            self._handle(message)

    async def _ping(self, interval: float) -> None:
        number = 0
        while True:
            number += 1
            self.send(wire.ConnectRequest(ping=wire.WorkerPing(number=number)))
            await asyncio.sleep(interval)
            if time.monotonic() - self._heard_at > SILENT_INTERVALS * interval:
                raise ConnectionLostError("the server was silent for too long")

    async def _raise_status(self) -> None:
        """Raise what the stream ended with."""
        code = await self._stream.code()
        details = await self._stream.details()
        if code is grpc.StatusCode.OK:
            raise ConnectionLostError("the server has ended the stream")
        raise aio.AioRpcError(
            code, await self._stream.initial_metadata(), await self._stream.trailing_metadata(), details
        )
