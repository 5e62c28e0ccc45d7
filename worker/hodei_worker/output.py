"""From a job's pipes to the chunks of its log."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable

from hodei.clock import steady_time_ns
from hodei.v1 import log_pb2 as wire
from hodei_worker.outbox import PATIENCE, Outbox
from hodei_worker.redaction import RedactedStream, Redaction

READ_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
#: Reads from one pipe before the other, and all else, has its turn.
READS_PER_TURN = 8
#: To look for secrets takes longer than to read.
READS_PER_TURN_REDACTED = 1


def open_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that holds as much as this user may have."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(reading, False)
    return reading, writing


class Output:
    """Reads a job's two pipes into an outbox, in the order in which there was something to read.

    :param on_chunk: called after something was added.
    :param offset: nanoseconds between this clock and the server's, to be added.
    :param redaction: of what is to be added to the outbox; None leaves everything as it is.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_chunk: Callable[[], None],
        offset: Callable[[], int],
        redaction: Redaction | None = None,
    ) -> None:
        self._outbox = outbox
        self._on_chunk = on_chunk
        self._offset = offset
        self._redaction = redaction
        self._open: dict[int, wire.LogStream.ValueType] = {}
        #: By descriptor; none where nothing is redacted.
        self._redacted: dict[int, RedactedStream] = {}
        self._paused = False
        self._looking: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def follow(self, descriptor: int, stream: wire.LogStream.ValueType) -> None:
        """Read a pipe from now on; it is closed at its end."""
        self._open[descriptor] = stream
        if self._redaction is not None:
            self._redacted[descriptor] = RedactedStream(self._redaction)
        self._loop.add_reader(descriptor, self._read, descriptor)

    def say(self, text: str) -> None:
        """Add a line of the worker's own."""
        said = f"{self.redact(text)}\n".encode()[:READ_BYTES]
        self._outbox.add(wire.LOG_STREAM_SYSTEM, said, steady_time_ns() + self._offset())
        self._on_chunk()

    def redact(self, text: str) -> str:
        """Return what may be told of a text of the worker's own."""
        if self._redaction is None:
            return text
        return self._redaction.redact(text.encode(errors="backslashreplace")).decode(errors="replace")

    def _read(self, descriptor: int) -> bool:
        """Read what there is, for a turn; return whether there was anything."""
        now = steady_time_ns() + self._offset()
        added = False
        for _ in range(READS_PER_TURN_REDACTED if self._redacted else READS_PER_TURN):
            if self._outbox.full:
                self._pause()
                break
            try:
                data = os.read(descriptor, READ_BYTES)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EINTR}:
                    break
                data = b""
            if not data:
                self._close(descriptor)
                break
            if self._redacted:
                self._add_redacted(descriptor, self._redacted[descriptor].feed(data), now)
            else:
                self._outbox.add(self._open[descriptor], data, now)
            added = True
            if len(data) < READ_BYTES:
                break
        if added:
            self._on_chunk()
        return added

    def _add_redacted(self, descriptor: int, data: bytes, now: int) -> None:
        """Add what was given out; with what was held back before it may be more than one chunk."""
        for start in range(0, len(data), READ_BYTES):
            self._outbox.add(self._open[descriptor], data[start : start + READ_BYTES], now)

    def _pause(self) -> None:
        """Let the job wait on its full pipe; after a while without an acknowledgement there may be room in a file."""
        self._paused = True
        self._look_later()
        for descriptor in self._open:
            self._loop.remove_reader(descriptor)

    def _look_later(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._loop.call_later(PATIENCE, self._look_again)

    def _look_again(self) -> None:
        self.resume()
        if self._paused and self._open:
            self._look_later()

    def resume(self) -> None:
        """Read on, if there is room again."""
        if self._paused and not self._outbox.full:
            self._paused = False
            for descriptor in self._open:
                self._loop.add_reader(descriptor, self._read, descriptor)

    def _close(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        if descriptor in self._redacted:
            rest = self._redacted.pop(descriptor).finish()
            self._add_redacted(descriptor, rest, steady_time_ns() + self._offset())
            self._on_chunk()
        del self._open[descriptor]
        if not self._open:
            self._ended.set()

    async def drain(self, seconds: float) -> bool:
        """Read to the end of both pipes. The bound doesn't run while the log waits for the server.

        :return: False when a process kept a pipe open for longer.
        """
        left = seconds
        while self._open:
            before, paused = time.monotonic(), self._paused
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.05)):
                    await self._ended.wait()
            if not paused:
                left -= time.monotonic() - before
            if left <= 0:
                return False
        return True

    async def take_rest(self) -> None:
        """Read what is in the pipes now, then close them."""
        while self._open:
            if self._paused:
                await asyncio.sleep(0.05)
                continue
            found = [self._read(descriptor) for descriptor in list(self._open)]
            if not any(found) and not self._paused:
                break
            await asyncio.sleep(0)
        self.close()

    def close(self) -> None:
        """Close the pipes."""
        for descriptor in list(self._open):
            self._close(descriptor)
