"""`WorkerService` against workers that are not what they should be."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.checksum import encode_checksum
from hodei.transport import open_channel
from hodei.v1 import log_pb2, worker_pb2, worker_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server

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
        with pytest.raises(Exception, match=r"(?i)method not found|unimplemented"):
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
