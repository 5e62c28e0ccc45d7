"""A real server on free ports of the loopback, with workers that are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.v1 import worker_pb2, worker_pb2_grpc
from hodei_client import Client, ClientSettings
from hodei_faults.secrets import FILE_VALUE, write_key
from hodei_faults.servers import settings_in
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Return what makes settings for a server with its data in this test's folder."""
    return functools.partial(settings_in, tmp_path / "data")


@pytest.fixture
def make_secret_settings(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Return what makes settings for a server that may keep values and has some of its own to give."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "key.pem").write_bytes(FILE_VALUE)
    (tmp_path / "outside").write_bytes(b"not for any job")
    (tmp_path / "given" / "link").symlink_to(tmp_path / "outside")
    monkeypatch.setenv("SHARED_TOKEN", "the-servers-own-token")
    monkeypatch.setenv("SHARED_SHORT", "short")
    monkeypatch.setenv("PRIVATE_TOKEN", "the-servers-private-token")
    key = write_key(tmp_path / "keys", b"k" * 32)

    def make(**overrides: str) -> Settings:
        own = {"secrets_key_file": key, "secrets_env": "SHARED_*", "secrets_folder": str(tmp_path / "given")}
        return make_settings(**(own | overrides))

    return make


def encode(message: bytes | worker_pb2.ConnectRequest) -> bytes:
    """Encode a message; bytes are sent as they are."""
    return message if isinstance(message, bytes) else message.SerializeToString()


class Impostor:
    """A worker that a test plays; the real ones never start."""

    nonce = b"0123456789abcdef"

    def __init__(self, channel: aio.Channel, server: Server) -> None:
        self.stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
        self.channel = channel
        self.server = server

    async def launched(self, count: int = 1) -> list[tuple[str, str]]:
        """Wait for so many workers to be launched; return their ids and their tokens."""
        folder = self.server.settings.data_dir
        async with asyncio.timeout(60):
            while True:
                found = [
                    (token.parent.name, token.read_text())
                    for token in folder.glob("providers/process/workers/*/otp")
                    if token.stat().st_size
                ]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)

    async def pid(self) -> int:
        """Wait until it is written down which process the one worker is; return that."""
        folder = self.server.settings.data_dir
        async with asyncio.timeout(60):
            while True:
                for record in folder.glob("providers/process/workers/*/worker.json"):
                    if pid := int(json.loads(record.read_text())["pid"]):
                        return pid
                await asyncio.sleep(0.02)

    async def credentials(self) -> tuple[str, str]:
        """Wait for a worker to be launched; return its id and its token."""
        return (await self.launched())[0]

    async def register(self, worker_id: str = "", otp: str = "", **fields: Any) -> str:
        """Return the session's token; of the first worker there is, if none is named."""
        if not worker_id:
            worker_id, otp = await self.credentials()
        named = {"worker_id": worker_id, "otp": otp, "nonce": self.nonce, "protocol_version": 1, **fields}
        response: worker_pb2.RegisterResponse = await self.stub.Register(worker_pb2.RegisterRequest(**named))
        return response.session_token

    def open(self, token: str) -> Any:
        """Open a stream on which nothing has been said yet."""
        call: Any = self.channel.stream_stream(
            "/hodei.v1.WorkerService/Connect", encode, worker_pb2.ConnectResponse.FromString
        )
        return call(metadata=(("authorization", f"Bearer {token}"),))

    async def greet(self, token: str, **hello: Any) -> tuple[Any, worker_pb2.ServerWelcome]:
        """Say hello and return the stream with the welcome."""
        stream = self.open(token)
        greeting = worker_pb2.WorkerHello(**{"protocol_version": 1, **hello})
        await stream.write(worker_pb2.ConnectRequest(hello=greeting))
        message = await self.next_message(stream)
        assert message.WhichOneof("message") == "welcome"
        return stream, message.welcome

    async def connect(self, token: str, **hello: Any) -> tuple[Any, worker_pb2.RunAttempt]:
        """Say hello and wait for the job."""
        stream, _ = await self.greet(token, **hello)
        run = await self.next_message(stream)
        assert run.WhichOneof("message") == "run"
        return stream, run.run

    @staticmethod
    async def next_message(stream: Any) -> worker_pb2.ConnectResponse:
        """Return the next message that is no ping."""
        while True:
            message = await stream.read()
            assert isinstance(message, worker_pb2.ConnectResponse)
            if message.WhichOneof("message") != "ping":
                return message

    @staticmethod
    async def ended(stream: Any) -> grpc.StatusCode:
        """Return what a stream ends with; it is known only once all that was sent before, pings too, has been read."""
        with contextlib.suppress(aio.AioRpcError):
            while await stream.read() is not aio.EOF:
                pass
        code: grpc.StatusCode = await stream.code()
        return code


@pytest.fixture
async def impostor(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Impostor, Client]]:
    """Return a server whose provider starts nothing that would register, and a worker to play.

    It answers no ping, and is heard for as long as a test takes all the same.
    """
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", "sh -c 'sleep 600'")
    async with (
        Server(make_settings(ping_interval="20s"), ephemeral=True) as server,
        aio.insecure_channel(server.worker_address.target, [("grpc.max_send_message_length", -1)]) as channel,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        yield Impostor(channel, server), client
