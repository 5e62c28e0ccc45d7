"""A running server, its client and the command; each folder says by `make_settings` what its servers are like."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings


@pytest.fixture
async def server(make_settings: Callable[..., Settings]) -> AsyncIterator[Server]:
    """Return a running server; its workers go with it."""
    async with Server(make_settings(), ephemeral=True) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """Return a client of the running server."""
    async with Client(settings=ClientSettings(server.address)) as connected:
        yield connected


RunHodei = Callable[..., Awaitable[tuple[int, bytes, bytes]]]


@pytest.fixture
def hodei(tmp_path: Path) -> RunHodei:
    """Return what runs the installed command for a server, in this test's folder; its exit code and what it wrote."""

    async def run(server: Server, *arguments: str) -> tuple[int, bytes, bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("hodei")),
            *arguments,
            env=kept | {"HODEI_SERVER": str(server.address)},
            cwd=tmp_path,
            stdout=pipe,
            stderr=pipe,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, err

    return run
