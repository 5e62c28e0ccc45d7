"""A real server on free ports of the loopback, with workers that are real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings, load_settings

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Return what makes settings for a server with its data in this test's folder."""

    def make(**overrides: str) -> Settings:
        fixed = {
            "listen": "127.0.0.1:0",
            "worker_listen": "127.0.0.1:0",
            "data_dir": str(tmp_path / "data"),
            "drain_timeout": "0s",
            "log_level": "error",
            "ping_interval": "500ms",
        }
        return load_settings(fixed | overrides)

    return make


@pytest.fixture
async def server(make_settings: MakeSettings) -> AsyncIterator[Server]:
    """Return a running server; its workers go with it."""
    async with Server(make_settings(), ephemeral=True) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """Return a client of the running server."""
    async with Client(settings=ClientSettings(server.address)) as connected:
        yield connected
