"""A running server and its client; each folder says by `make_settings` what its servers are like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

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
