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

READ_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
#: Reads from one pipe before the other has its turn.
READS_PER_TURN = 8


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
    """

    def __init__(self, outbox: Outbox, on_chunk: Callable[[], None], offset: Callable[[], int]) -> None:
        self._outbox = outbox
        self._on_chunk = on_chunk
        self._offset = offset
        self._open: dict[int, wire.LogStream.ValueType] = {}
        self._paused = False
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def follow(self, descriptor: int, stream: wire.LogStream.ValueType) -> None:
        """Read a pipe from now on; it is closed at its end."""
        self._open[descriptor] = stream
        self._loop.add_reader(descriptor, self._read, descriptor)

    def say(self, text: str) -> None:
        """Add a line of the worker's own."""
        self._outbox.add(wire.LOG_STREAM_SYSTEM, f"{text}\n".encode()[:READ_BYTES], steady_time_ns() + self._offset())
        self._on_chunk()

    def _read(self, descriptor: int) -> None:
        now = steady_time_ns() + self._offset()
        added = False
        for _ in range(READS_PER_TURN):
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
            self._outbox.add(self._open[descriptor], data, now)
            added = True
            if len(data) < READ_BYTES:
                break
        if added:
            self._on_chunk()

    def _pause(self) -> None:
        """Let the job wait on its full pipe; after a while without an acknowledgement there may be room in a file."""
        self._paused = True
        self._loop.call_later(PATIENCE, self._look_again)
        for descriptor in self._open:
            self._loop.remove_reader(descriptor)

    def _look_again(self) -> None:
        self.resume()
        if self._paused and self._open:
            self._loop.call_later(PATIENCE, self._look_again)

    def resume(self) -> None:
        """Read on, if there is room again."""
        if self._paused and not self._outbox.full:
            self._paused = False
            for descriptor in self._open:
                self._loop.add_reader(descriptor, self._read, descriptor)

    def _close(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
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
                await asyncio.wait_for(self._ended.wait(), min(left, 0.05))
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
            before = self._outbox.next_sequence
            for descriptor in list(self._open):
                self._read(descriptor)
            if self._outbox.next_sequence == before and not self._paused:
                break
            await asyncio.sleep(0)
        self.close()

    def close(self) -> None:
        """Close the pipes."""
        for descriptor in list(self._open):
            self._close(descriptor)
