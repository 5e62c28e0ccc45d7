"""Workers that come from anywhere, as those in a cluster do whose server's own address is not known before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_providers.contract import Route
from hodei_providers.process import ProcessProvider
from hodei_server.app import Server
from hodei_server.settings import Settings


async def test_one_listener_at_every_address_serves_those_of_this_machine_too(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' listener is on the loopback by default, and nothing can listen beside it at all with its port."""
    routes = {"near": None, "far": Route("localhost", listen="0.0.0.0")}  # noqa: S104 - by TLS, and this is the subject
    monkeypatch.setattr(ProcessProvider, "route", lambda self: routes[self.name])
    settings = make_settings(providers="near=process,far=process")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        assert (server.worker_address.host, server.worker_address.tls) == ("127.0.0.1", True)
        for name in routes:
            job = await client.submit(["true"], providers=[name])
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            assert (await client.get(job)).attempts[0].provider == name
