"""Workers of another release than the server's."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import aio

import hodei
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2
from hodei_client import Chunk, Client, ClientSettings
from hodei_server.app import Server
from hodei_server.rpc import worker_service, worker_words
from hodei_server.settings import Settings

#: The impostor of conftest.py, and a client.
Cast = tuple[Any, Client]

#: A real worker, but for the version that it says it has.
NEWER = """
import sys
from hodei_worker.main import main
import hodei, hodei_worker.agent
hodei.__version__, hodei_worker.agent.PROTOCOL_VERSION = "99.1", 3
sys.exit(main())
"""
#: Number 1007, a string.
UNKNOWN_FIELD = b"\xfa\x3e\x01x"


def served() -> str:
    """Return how the server says what it serves."""
    return f"server {hodei.__version__} speaks 1 to 2"


async def test_a_newer_worker_ends_and_its_job_tells_both_versions(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W35, W38: it is refused when it registers; the job's log has the worker's last words."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", shlex.join([sys.executable, "-c", NEWER]))
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == types_wire.JOB_STATE_FAILED
        log = b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)]).decode()
        assert f"protocol_version 3 (worker 99.1) is not served: {served()}" in log


async def test_a_newer_workers_version_explains_fields_that_are_not_known(impostor: Cast) -> None:
    """W38: it stands before them, in the answer to a registration and to a hello."""
    worker, client = impostor
    await client.submit(["true"])
    worker_id, otp = await worker.credentials()
    said = worker_pb2.RegisterRequest(
        worker_id=worker_id, otp=otp, nonce=worker.nonce, protocol_version=3, worker_version="99.1"
    )
    register: Any = worker.channel.unary_unary("/hodei.v1.WorkerService/Register")
    with pytest.raises(aio.AioRpcError) as caught:
        await register(said.SerializeToString() + UNKNOWN_FIELD)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    expected = f"protocol_version 3 (worker 99.1) is not served: {served()}; 1007 is a field"
    assert expected in (caught.value.details() or "")
    hello = worker_pb2.WorkerHello(protocol_version=3, worker_version="99.1")
    stream = worker.open(await worker.register())
    newer = worker_pb2.WorkerHello.FromString(hello.SerializeToString() + UNKNOWN_FIELD)
    await stream.write(worker_pb2.ConnectRequest(hello=newer))
    assert await worker.ended(stream) is grpc.StatusCode.INVALID_ARGUMENT
    assert expected.replace("1007", "hello.1007") in await stream.details()
    assert worker.server.sessions.refusals == {"hello": 1}


async def test_a_field_that_is_not_known_ends_a_session_with_both_versions(impostor: Cast) -> None:
    """W38: where a worker says that it is of this release, and is not."""
    worker, client = impostor
    await client.submit(["true"])
    stream, run = await worker.connect(await worker.register(), worker_version="99.1")
    started = worker_pb2.AttemptStarted(attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1)
    await stream.write(worker_pb2.ConnectRequest(started=started).SerializeToString() + UNKNOWN_FIELD)
    message = await worker.next_message(stream)
    assert f"(worker 99.1, server {hodei.__version__})" in message.closed.reason


async def test_a_worker_one_release_older_is_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is upgraded first."""
    monkeypatch.setattr(worker_words, "PROTOCOL_VERSION", 3)
    monkeypatch.setattr(worker_service, "PROTOCOL_VERSION", 3)
    assert (await client.wait(await client.submit(["true"]))).state == types_wire.JOB_STATE_SUCCEEDED
