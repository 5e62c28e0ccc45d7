"""A TCP port with TLS before a socket in plain text, as an engine of containers listens on a network."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

PIECE = 1 << 16


class Authority:
    """An authority and what it has signed: ``ca.pem``, and ``NAME.pem`` and ``NAME.key`` for each name.

    :param folder: is made; everything lies there.
    :param names: of those that get a certificate, for the loopback's address.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        folder.mkdir()
        new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509", "-days", "2")
        self._openssl(*new, "-subj", f"/CN={folder.name}", "-keyout", "ca.key", "-out", "ca.pem")
        for name in names:
            address = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
            signed = ("-subj", f"/CN={name}", "-CA", "ca.pem", "-CAkey", "ca.key")
            self._openssl(*new, *address, *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, timeout=60, check=True)

    def path(self, file: str) -> str:
        """Return where a file of it lies."""
        return str(self.folder / file)


class TlsProxy:
    """Listens on the loopback and wants a client's certificate. An asynchronous context manager.

    :param path: the socket that it leads to.
    :param authority: of the clients' certificates.
    :param name: whose certificate of the same authority is shown to them.
    :ivar clients: the names of the certificates that clients have shown, a connection each.
    """

    def __init__(self, path: str, authority: Authority, name: str) -> None:
        self.clients: list[str] = []
        self.port = 0
        self._path = path
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path("ca.pem"))
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(authority.path(f"{name}.pem"), authority.path(f"{name}.key"))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where the engine is found."""
        return f"tcp://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Break what is open, and listen no more."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        subject = dict(pair for each in writer.get_extra_info("peercert")["subject"] for pair in each)
        self.clients.append(subject["commonName"])
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._path)
            ways = [
                asyncio.create_task(_forward(reader, far_writer)),
                asyncio.create_task(_forward(far_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
