"""`WorkerService` against workers that are not what they should be."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import structlog
from grpc import aio
from sqlalchemy import update

from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.transport import open_channel
from hodei.v1 import log_pb2, worker_pb2, worker_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings, ServerError
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import workers

NONCE = b"0123456789abcdef"
#: The impostor of conftest.py, and a client.
Cast = tuple[Any, Client]


def block(*chunks: log_pb2.LogChunk) -> bytes:
    """Encode chunks."""
    return log_pb2.LogBlock(chunks=chunks).SerializeToString()


def chunk(sequence: int, data: bytes = b"x\n") -> log_pb2.LogChunk:
    """Return a chunk."""
    return log_pb2.LogChunk(sequence=sequence, time_unix_nanos=1, stream=log_pb2.LOG_STREAM_STDOUT, data=data)


@pytest.mark.parametrize(
    "change", [{"otp": "wrong"}, {"worker_id": "somebody"}, {"nonce": b"another nonce 16"}], ids=str
)
async def test_a_token_that_is_wrong_foreign_or_used_is_refused(impostor: Cast, change: dict[str, object]) -> None:
    """W35: with one status, and words that help no attacker."""
    worker, client = impostor
    await client.submit(["true"])
    worker_id, otp = await worker.credentials()
    await worker.register()
    fields: dict[str, object] = {"worker_id": worker_id, "otp": otp, "nonce": NONCE, "protocol_version": 1, **change}
    with pytest.raises(aio.AioRpcError) as caught:
        await worker.stub.Register(worker_pb2.RegisterRequest(**fields))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert otp not in (caught.value.details() or "")


async def test_a_registration_without_a_token_is_told_by_the_server_too(impostor: Cast) -> None:
    """Whoever writes a provider that loses the token sees it there; the worker's own output may be out of reach."""
    worker, client = impostor
    await client.submit(["true"])
    worker_id, _ = await worker.credentials()
    with structlog.testing.capture_logs() as told, pytest.raises(aio.AioRpcError) as caught:
        await worker.stub.Register(worker_pb2.RegisterRequest(worker_id=worker_id, nonce=NONCE, protocol_version=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert worker.server.sessions.refusals == {"register": 1}
    (line,) = [each for each in told if each["event"] == "worker.register_refused"]
    assert line["worker_id"] == worker_id
    assert "otp" in line["reason"]


async def test_a_lost_answer_is_given_again_until_the_first_hello(impostor: Cast) -> None:
    """The same nonce gives the same session; after the hello nobody gets it."""
    worker, client = impostor
    await client.submit(["true"])
    token = await worker.register()
    assert await worker.register() == token
    await worker.connect(token)
    with pytest.raises(aio.AioRpcError):
        await worker.register()


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer nonsense", "Basic eDp5"])
async def test_a_stream_without_a_session_is_refused(server: Server, token: str) -> None:
    """Nothing is served before the session is known."""
    async with open_channel(server.worker_address) as channel:
        stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
        stream = stub.Connect(metadata=(("authorization", token),))
        assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_nothing_but_the_worker_service_is_served_to_workers(server: Server) -> None:
    """Who reaches the workers' listener from a container can't submit jobs."""
    async with Client(settings=_settings(server)) as client:
        with pytest.raises(ServerError, match=f"{server.worker_address} does not know this call: .*HODEI_LISTEN"):
            await client.submit(["true"])


def _settings(server: Server) -> ClientSettings:
    return ClientSettings(server.worker_address)


@pytest.mark.parametrize(
    "data",
    [
        block(chunk(5)),
        block(chunk(0), chunk(2)),
        block(chunk(0)) + b"\x22\x00",
        block(chunk(0, b"x" * 65537)),
        block(log_pb2.LogChunk(sequence=0, stream=9)),  # type: ignore[arg-type]
        b"\xff\xff",
        b"",
    ],
    ids=["future", "gap", "spliced", "large", "stream", "garbage", "empty"],
)
async def test_a_lie_in_the_log_ends_the_session(impostor: Cast, data: bytes) -> None:
    """What can't be true is refused with a reason; the job is another worker's then."""
    worker, client = impostor
    await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    log = worker_pb2.LogBlocks(attempt_uid=run.attempt_uid, epoch=run.epoch, block=data)
    await stream.write(worker_pb2.ConnectRequest(log=log))
    closed = await worker.next_message(stream)
    assert closed.WhichOneof("message") == "closed"
    assert closed.closed.reason


async def test_a_repeated_block_is_ignored_and_a_result_counts_once(impostor: Cast) -> None:
    """L05, W32: dedupe goes by sequence; the outcome is the first one."""
    worker, client = impostor
    job = await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    names = {"attempt_uid": run.attempt_uid, "epoch": run.epoch}
    for data in (block(chunk(0), chunk(1)), block(chunk(0), chunk(1)), block(chunk(1), chunk(2))):
        await stream.write(worker_pb2.ConnectRequest(log=worker_pb2.LogBlocks(block=data, **names)))
    acknowledged = 0
    while acknowledged < 3:
        acknowledged = max(acknowledged, (await worker.next_message(stream)).log_ack.next_sequence)
    result = worker_pb2.AttemptResult(cause=types_wire.CAUSE_EXIT_CODE, exit_code=0, next_sequence=3, **names)
    result.log_checksum = encode_checksum(0)
    await stream.write(worker_pb2.ConnectRequest(result=result))
    assert (await client.wait(job)).exit_code == 0
    receipt = await client.receipt(job)
    # The worker's checksum was made up, and that is told.
    assert (receipt.chunks, receipt.bytes, receipt.complete) == (3, 6, False)


async def test_a_batch_is_taken_as_its_messages_would_be(impostor: Cast) -> None:
    """L03: start, log and result of an instant job in one message; its history tells every move, in order."""
    worker, client = impostor
    job = await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    names = {"attempt_uid": run.attempt_uid, "epoch": run.epoch}
    result = worker_pb2.AttemptResult(cause=types_wire.CAUSE_EXIT_CODE, exit_code=0, next_sequence=2, **names)
    terms = [chunk_checksum(each.sequence, each.stream, each.data) for each in (chunk(0), chunk(1))]
    result.log_checksum = encode_checksum(add_checksums(*terms))
    messages = [
        worker_pb2.ConnectRequest(started=worker_pb2.AttemptStarted(pid=1, **names)),
        worker_pb2.ConnectRequest(log=worker_pb2.LogBlocks(block=block(chunk(0), chunk(1)), **names)),
        worker_pb2.ConnectRequest(result=result),
    ]
    await stream.write(worker_pb2.ConnectRequest(batch=worker_pb2.ConnectBatch(messages=messages)))
    assert (await client.wait(job)).exit_code == 0
    receipt = await client.receipt(job)
    assert (receipt.chunks, receipt.bytes, receipt.complete) == (2, 4, True)
    states = [event.event.state async for event in client.watch(job)]
    assert states == [
        types_wire.JOB_STATE_QUEUED,
        types_wire.JOB_STATE_STARTING,
        types_wire.JOB_STATE_RUNNING,
        types_wire.JOB_STATE_FINISHING,
        types_wire.JOB_STATE_SUCCEEDED,
    ]
    assert (await client.get(job)).attempts[0].HasField("start_time")


async def test_two_results_that_differ_end_the_session(impostor: Cast) -> None:
    """A worker can't say two things of one attempt."""
    worker, client = impostor
    await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    for code in (0, 1):
        result = worker_pb2.AttemptResult(
            attempt_uid=run.attempt_uid,
            epoch=run.epoch,
            cause=types_wire.CAUSE_EXIT_CODE,
            exit_code=code,
            next_sequence=7,
            log_checksum=encode_checksum(0),
        )
        await stream.write(worker_pb2.ConnectRequest(result=result))
    message = await worker.next_message(stream)
    while message.WhichOneof("message") != "closed":
        message = await worker.next_message(stream)
    assert "twice" in message.closed.reason


async def refused(worker: Any, call: Any, secrets: list[str], kind: str) -> grpc.StatusCode:
    """Make a call that is refused; see that it is counted, logged once, and that no secret is told anywhere."""
    before = worker.server.sessions.refusals[kind]
    with structlog.testing.capture_logs() as entries, pytest.raises(aio.AioRpcError) as caught:
        await call()
    assert worker.server.sessions.refusals[kind] == before + 1
    logged = [entry for entry in entries if entry["event"] == f"worker.{kind}_refused"]
    assert len(logged) == 1
    assert logged[0]["reason"]
    told = repr(entries) + repr(caught.value.details()) + repr(caught.value.trailing_metadata())
    assert not [secret for secret in secrets if secret in told]
    code: grpc.StatusCode = caught.value.code()
    return code


def change_worker(worker: Any, worker_id: str, **values: Any) -> None:
    """Change a worker's row behind the server's back."""
    engine = open_engine(worker.server.settings.resolved_database_url)
    with engine.begin() as connection:
        connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(**values))
    engine.dispose()


@pytest.mark.parametrize("fault", ["expired", "reused", "foreign", "unknown", "removed"])
async def test_a_one_time_token_that_does_not_count_is_refused_and_counted(impostor: Cast, fault: str) -> None:
    """W24, W35: expired, used, another worker's, made up, of a worker being removed; told once, never in clear."""
    worker, client = impostor
    for _ in range(2):
        await client.submit(["true"])
    (worker_id, otp), (_, foreign) = await worker.launched(2)
    given = otp
    session = ""
    if fault == "expired":
        change_worker(worker, worker_id, otp_expires_at=0)
    elif fault == "reused":
        session = await worker.register(worker_id, otp)
    elif fault == "foreign":
        given = foreign
    elif fault == "unknown":
        given = "A" * 43
    else:
        change_worker(worker, worker_id, removal_reason="for this test")
    nonce = b"another nonce 16"
    secrets = [secret for secret in (otp, foreign, given, session) if secret]
    code = await refused(worker, lambda: worker.register(worker_id, given, nonce=nonce), secrets, "register")
    assert code is grpc.StatusCode.UNAUTHENTICATED
    if fault == "reused":
        await worker.connect(session)


@pytest.mark.parametrize("fault", ["ended", "made up", "one-time", "none"])
async def test_a_session_token_that_does_not_count_is_refused_and_counted(impostor: Cast, fault: str) -> None:
    """W24, W35: of a worker that was removed, made up, a one-time token in its place, none at all."""
    worker, client = impostor
    await client.submit(["true"])
    worker_id, otp = await worker.credentials()
    token = await worker.register(worker_id, otp)
    given = {"ended": token, "made up": "A" * 43, "one-time": otp, "none": ""}[fault]
    if fault == "ended":
        change_worker(worker, worker_id, removal_reason="for this test")

    async def connect() -> None:
        stream = worker.stub.Connect(metadata=(("authorization", f"Bearer {given}"),))
        await stream.read()

    secrets = [secret for secret in (token, otp, given) if secret]
    assert await refused(worker, connect, secrets, "session") is grpc.StatusCode.UNAUTHENTICATED
    if fault != "ended":
        await worker.connect(token)


async def test_the_first_message_is_a_hello_that_can_be(impostor: Cast) -> None:
    """Another one, an old protocol, a clock before 1970: refused by the field's name; the session goes on."""
    worker, client = impostor
    await client.submit(["true"])
    token = await worker.register()
    hello = worker_pb2.WorkerHello
    for message, field in (
        (worker_pb2.ConnectRequest(ping=worker_pb2.WorkerPing(number=1)), "hello"),
        (worker_pb2.ConnectRequest(), "hello"),
        (worker_pb2.ConnectRequest(hello=hello()), "hello.protocol_version"),
        (
            worker_pb2.ConnectRequest(hello=hello(protocol_version=1, time_unix_nanos=-(1 << 63))),
            "hello.time_unix_nanos",
        ),
        (worker_pb2.ConnectRequest(hello=hello(protocol_version=1, worker_version="x" * 65)), "hello.worker_version"),
    ):
        stream = worker.stub.Connect(metadata=(("authorization", f"Bearer {token}"),))
        await stream.write(message)
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stream.details()).startswith(field)
    await worker.connect(token)
