"""Workers that are not on the loopback reach the server at an address of their own, by TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei_client import Chunk, Client, ClientSettings
from hodei_providers.contract import LaunchRequest, Provider, Route
from hodei_providers.process import ProcessProvider
from hodei_server import opening
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]

#: An address of this machine that is not the listener's own.
ELSEWHERE = "127.0.0.2"


class ProcessesElsewhere(ProcessProvider):
    """Has its workers connect to an address as containers would."""

    requests: list[LaunchRequest]
    way = Route(ELSEWHERE, listen=ELSEWHERE)

    def route(self) -> Route | None:
        """Name the address."""
        return self.way

    async def launch(self, request: LaunchRequest) -> Any:
        """Launch, and report as one that pulls an image would."""
        self.requests.append(request)
        request.report("image example: pulled")
        return await super().launch(request)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ProcessesElsewhere:
    """Return the provider that a server of this test uses."""
    provider = ProcessesElsewhere("process", data_dir=tmp_path / "workers")
    provider.requests = []

    def load(*_: object, **__: object) -> Provider:
        return provider

    monkeypatch.setattr(opening, "load_provider", load)
    return provider


async def test_a_worker_elsewhere_runs_its_job(elsewhere: ProcessesElsewhere, server: Server, client: Client) -> None:
    """With an authority that the server has made; what the provider reports opens the log."""
    job = await client.submit(["echo", "hello"])
    events = [event async for event in client.logs(job)]
    assert b"".join(event.data for event in events if isinstance(event, Chunk)) == b"image example: pulled\nhello\n"
    assert (await client.receipt(job)).complete
    request = elsewhere.requests[0]
    assert request.server_address == f"https://{ELSEWHERE}:{server.worker_address.port}"
    assert request.labels["job"] == job
    assert request.labels["attempt"] == "1"
    assert request.labels["tenant"] == "default"
    assert server.worker_address.host == "127.0.0.1"


async def test_a_listener_that_is_open_to_all_is_encrypted_for_all(
    elsewhere: ProcessesElsewhere, make_settings: MakeSettings
) -> None:
    """A server whose workers find it by a name, in a container of its own say; nothing else has to be set."""
    elsewhere.way = Route("localhost")
    settings = make_settings(worker_listen="0.0.0.0:0")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["echo", "hello"])
        outcome = await client.wait(job)
        assert outcome.exit_code == 0
        assert elsewhere.requests[0].server_address == f"https://localhost:{server.worker_address.port}"
        assert server.worker_address.tls


async def call(channel: aio.Channel, method: str) -> None:
    """Make a call with an empty message."""
    made: Any = channel.unary_unary(method)
    await made(b"", timeout=60)


async def test_strangers_there_hear_no_plain_text(elsewhere: ProcessesElsewhere, server: Server) -> None:
    """Nor is anything but the workers' service served."""
    target = f"{ELSEWHERE}:{server.worker_address.port}"
    async with aio.insecure_channel(target) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await call(channel, "/hodei.v1.WorkerService/Register")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    authority = (server.settings.data_dir / "tls" / "ca.pem").read_bytes()
    async with aio.secure_channel(target, grpc.ssl_channel_credentials(authority)) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await call(channel, "/hodei.v1.JobService/ListJobs")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert elsewhere.requests == []
