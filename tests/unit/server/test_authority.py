"""The authority of the workers' listener: made once, renewed before it expires, for the names that workers use."""

from __future__ import annotations

import asyncio
import datetime as dt
import stat
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc import aio

from hodei_server.authority import CERTIFICATE_LEFT, CERTIFICATE_LIFE, WorkerAuthority


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = dt.datetime.now(dt.UTC)

    def __call__(self) -> dt.datetime:
        """Tell the time."""
        return self.time


def names(folder: Path) -> set[str]:
    """Return what the kept certificate is for."""
    certificate = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in extension}


def test_it_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """W26: workers that were handed the authority come back to the next server."""
    first = WorkerAuthority(tmp_path, ["172.17.0.1"])
    certificate = (tmp_path / "server.pem").read_bytes()
    second = WorkerAuthority(tmp_path, ["172.17.0.1"])
    assert second.ca_pem == first.ca_pem
    assert (tmp_path / "server.pem").read_bytes() == certificate


def test_another_address_takes_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    """A network that was added doesn't shut out the workers that are there."""
    first = WorkerAuthority(tmp_path, ["172.17.0.1"])
    second = WorkerAuthority(tmp_path, ["172.17.0.1", "hodei.example"])
    assert second.ca_pem == first.ca_pem
    assert {"172.17.0.1", "hodei.example", "127.0.0.1"} <= names(tmp_path)


def test_keys_are_its_users_alone(tmp_path: Path) -> None:
    """Neither a group nor others read them."""
    WorkerAuthority(tmp_path / "tls", [])
    for path in (tmp_path / "tls").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.key", "server.pem"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, name: str) -> None:
    """Rather than a server that does not start."""
    WorkerAuthority(tmp_path, [])
    (tmp_path / name).write_bytes(b"-----BEGIN NONSENSE-----")
    WorkerAuthority(tmp_path, [])
    assert b"NONSENSE" not in (tmp_path / name).read_bytes()


async def test_a_certificate_is_renewed_while_the_server_runs(tmp_path: Path) -> None:
    """At the first handshake of its last month; those who trust the authority notice nothing."""
    clock = Clock()
    clock.time -= CERTIFICATE_LIFE - CERTIFICATE_LEFT
    authority = WorkerAuthority(tmp_path, ["127.0.0.1"], now=clock)
    server = aio.server()
    port = server.add_secure_port("127.0.0.1:0", authority.credentials())
    await server.start()
    try:
        before = (tmp_path / "server.pem").read_bytes()
        await connect(port, authority.ca_pem)
        assert (tmp_path / "server.pem").read_bytes() == before
        clock.time = dt.datetime.now(dt.UTC)
        await connect(port, authority.ca_pem)
        assert (tmp_path / "server.pem").read_bytes() != before
    finally:
        await server.stop(0)


async def test_another_authoritys_workers_are_not_fooled(tmp_path: Path) -> None:
    """A server that shows another certificate gets no token."""
    authority = WorkerAuthority(tmp_path / "one", ["127.0.0.1"])
    other = WorkerAuthority(tmp_path / "other", ["127.0.0.1"])
    server = aio.server()
    port = server.add_secure_port("127.0.0.1:0", authority.credentials())
    await server.start()
    try:
        with pytest.raises(TimeoutError):
            await connect(port, other.ca_pem, seconds=1.0)
    finally:
        await server.stop(0)


async def connect(port: int, authority: bytes, seconds: float = 30.0) -> None:
    """Shake hands; raise TimeoutError when that doesn't succeed."""
    credentials = grpc.ssl_channel_credentials(authority)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        async with asyncio.timeout(seconds):
            await channel.channel_ready()
