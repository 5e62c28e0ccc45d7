"""A TCP proxy that can break, stall and slow down what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

#: Bytes moved at a time.
PIECE = 1 << 16
#: With a rate: what may be on the way in the proxy's own sockets, in bytes.
SMALL_BUFFER = 4096


class FaultyProxy:
    """Forwards connections to a target, as long as it is told to. An asynchronous context manager.

    :param target: host and port; nobody needs to listen there yet.
    :param path: of a socket, which is the target then.
    :param bytes_per_second: how fast a connection's client gets its answers; None: as fast as they come.
    :param host: an address of this machine, where it listens.
    :param tls: what its clients speak to it; the target is spoken to in plain text.
    :ivar port: the same.
    :ivar accepted: how many connections have come so far.
    :ivar answered: bytes that came back from the target.
    """

    def __init__(
        self,
        target: tuple[str, int] = ("", 0),
        *,
        path: Path | None = None,
        bytes_per_second: float | None = None,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self._path = path
        self._tls = tls
        self.host = host
        self.bytes_per_second = bytes_per_second
        self.port = 0
        self.accepted = 0
        self.answered = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._is_cut = False
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        if self.bytes_per_second is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        sock.bind((self.host, 0))
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Break every connection and listen no more."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._connections)
        self._break_all()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection, and each that comes, until `heal`."""
        self._is_cut = True
        self._break_all()

    def reset(self) -> None:
        """Reset every connection; those that come are served."""
        self._break_all()

    def stall(self) -> None:
        """Forward nothing until `heal`: both sides keep a connection that is as good as dead."""
        self._flowing.clear()

    def heal(self) -> None:
        """Forward again; what was stalled arrives."""
        self._is_cut = False
        self._flowing.set()

    def _break_all(self) -> None:
        for task, writers in list(self._connections.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._is_cut:
            _reset(writer)
            return
        self._greet(writer)
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        try:
            if self._path is not None:
                far_reader, far_writer = await asyncio.open_unix_connection(self._path)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.target)
            writers.append(far_writer)
            there = asyncio.create_task(self._forward(reader, far_writer, slowly=False))
            back = asyncio.create_task(self._forward(far_reader, writer, slowly=True))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.close()
            del self._connections[task]

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        """Take note of a client."""

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                rate = self.bytes_per_second if slowly else None
                data = await reader.read(PIECE if rate is None else 256)
                if not data:
                    return
                await self._flowing.wait()
                if slowly:
                    self.answered += len(data)
                writer.write(data)
                await writer.drain()
                if rate is not None:
                    await asyncio.sleep(len(data) / rate)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side gets an error, not an end."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
