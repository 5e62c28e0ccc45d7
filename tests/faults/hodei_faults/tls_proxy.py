"""A TCP port with TLS before a socket in plain text, as an engine of containers listens on a network."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

from hodei_faults.proxy import FaultyProxy


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


class TlsProxy(FaultyProxy):
    """Listens on the loopback and wants a client's certificate. An asynchronous context manager.

    :param path: the socket that it leads to.
    :param authority: of the clients' certificates.
    :param name: whose certificate of the same authority is shown to them.
    :ivar clients: the names of the certificates that clients have shown, a connection each.
    """

    def __init__(self, path: str, authority: Authority, name: str) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path("ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(authority.path(f"{name}.pem"), authority.path(f"{name}.key"))
        super().__init__(path=Path(path), tls=context)
        self.clients: list[str] = []

    @property
    def address(self) -> str:
        """Where the engine is found."""
        return f"tcp://{super().address}"

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        subject = dict(pair for each in writer.get_extra_info("peercert")["subject"] for pair in each)
        self.clients.append(subject["commonName"])
