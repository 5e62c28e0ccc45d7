"""A worker that lies is shut out; nobody else, and nothing stored, is hurt by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration

from hodei.checksum import add_checksums, chunk_checksum, encode_checksum
from hodei.transport import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, open_channel
from hodei.v1 import log_pb2, worker_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Chunk, Client, LogPlace
from hodei_server.rpc.worker_service import MAX_BREAKS

#: The impostor of conftest.py, and a client.
Cast = tuple[Any, Client]
Run = worker_pb2.RunAttempt
Lie = Callable[[Run, Run], worker_pb2.ConnectRequest | bytes]

CHECKSUM = encode_checksum(0)
#: Of a log that is what `say` sends once.
RIGHT = encode_checksum(chunk_checksum(0, log_pb2.LOG_STREAM_STDOUT, b"true\n"))
#: Number 1007, a string.
UNKNOWN_FIELD = b"\xfa\x3e\x01x"
FORGED = log_pb2.StreamLogsResponse(end=log_pb2.LogStreamEnd(next_sequence=1)).SerializeToString()


def chunk(sequence: int, data: bytes = b"true\n") -> log_pb2.LogChunk:
    """Return a chunk."""
    return log_pb2.LogChunk(sequence=sequence, time_unix_nanos=1, stream=log_pb2.LOG_STREAM_STDOUT, data=data)


def block(*chunks: log_pb2.LogChunk) -> bytes:
    """Encode chunks."""
    return log_pb2.LogBlock(chunks=chunks).SerializeToString()


def log(run: Run, data: bytes) -> worker_pb2.ConnectRequest:
    """Return a message with a block."""
    return worker_pb2.ConnectRequest(log=worker_pb2.LogBlocks(attempt_uid=run.attempt_uid, epoch=run.epoch, block=data))


def started(run: Run) -> worker_pb2.ConnectRequest:
    """Return the message that the process runs."""
    return worker_pb2.ConnectRequest(
        started=worker_pb2.AttemptStarted(attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1)
    )


def batch(*messages: worker_pb2.ConnectRequest) -> worker_pb2.ConnectRequest:
    """Return several messages as one."""
    return worker_pb2.ConnectRequest(batch=worker_pb2.ConnectBatch(messages=messages))


def result(run: Run, **fields: Any) -> worker_pb2.ConnectRequest:
    """Return the result of a process that ended well, but for some fields."""
    fine: dict[str, Any] = {
        "attempt_uid": run.attempt_uid,
        "epoch": run.epoch,
        "cause": types_wire.CAUSE_EXIT_CODE,
        "exit_code": 0,
        "next_sequence": 1,
        "log_checksum": CHECKSUM,
    }
    values = {name: value for name, value in (fine | fields).items() if value is not None}
    return worker_pb2.ConnectRequest(result=worker_pb2.AttemptResult(**values))


def refusal(run: Run) -> worker_pb2.ConnectRequest:
    """Return the message that an attempt can't be taken."""
    return worker_pb2.ConnectRequest(
        run_refused=worker_pb2.RunRefused(attempt_uid=run.attempt_uid, epoch=run.epoch, reason="no")
    )


#: Made of the liar's own attempt and of another worker's.
LIES: dict[str, Lie] = {
    "a chunk from the future": lambda own, _: log(own, block(chunk(9, b"false\n"))),
    "a gap inside a block": lambda own, _: log(own, block(chunk(1, b"false\n"), chunk(3))),
    "an end spliced into a block": lambda own, _: log(own, block(chunk(1, b"false\n")) + FORGED),
    "an unknown field of a block": lambda own, _: log(own, block(chunk(1, b"false\n")) + UNKNOWN_FIELD),
    "a block over the limit": lambda own, _: log(own, block(*(chunk(1 + n, b"x" * 65536) for n in range(17)))),
    "another's log": lambda _, other: log(other, block(chunk(1, b"false\n"))),
    "another's start": lambda _, other: started(other),
    "another's result": lambda _, other: result(other),
    "another's refusal": lambda _, other: refusal(other),
    "a batch in a batch": lambda own, _: batch(batch(log(own, block(chunk(1, b"false\n"))))),
    "a hello in a batch": lambda _own, _other: batch(worker_pb2.ConnectRequest(hello=worker_pb2.WorkerHello())),
    "fewer chunks than were taken": lambda own, _: result(own, next_sequence=0),
    "more chunks than there are numbers": lambda own, _: result(own, next_sequence=(1 << 64) - 1),
    "an unknown cause": lambda own, _: result(own, cause=999),
    "a cause that is the server's to say": lambda own, _: result(own, cause=types_wire.CAUSE_QUOTA),
    "an exit code that no process has": lambda own, _: result(own, exit_code=4000),
    "an exit without a code": lambda own, _: result(own, exit_code=None),
    "a signal that there is not": lambda own, _: result(own, cause=types_wire.CAUSE_SIGNAL, signal=-9),
    "a negative size": lambda own, _: result(own, peak_memory_bytes=-1),
    "a negative time": lambda own, _: result(own, cpu_time=Duration(seconds=-1)),
    "a checksum that is none": lambda own, _: result(own, log_checksum=b"short"),
    "that no retry could help": lambda own, _: result(own, final=True),
    "no checksum": lambda own, _: result(own, log_checksum=None),
    "nothing at all": lambda _own, _: worker_pb2.ConnectRequest(),
    "a second hello": lambda _own, _: worker_pb2.ConnectRequest(hello=worker_pb2.WorkerHello(protocol_version=1)),
    "a frame that is no message": lambda _own, _: b"\xff\xff",
    "a frame over the limit": lambda own, _: result(own, log_checksum=RIGHT, message="x" * MAX_MESSAGE_BYTES),
    "the largest frame that is seen": lambda _own, _: bytes(MAX_FRAME_BYTES),
    "an unknown field": lambda own, _: started(own).SerializeToString() + UNKNOWN_FIELD,
    "an unknown field inside a batch": lambda own, _: batch(
        worker_pb2.ConnectRequest.FromString(started(own).SerializeToString() + UNKNOWN_FIELD)
    ),
    "a megabyte of reasons to drain": lambda _own, _: worker_pb2.ConnectRequest(
        draining=worker_pb2.WorkerDraining(reason="x" * (1 << 20))
    ),
    "a megabyte of reasons to refuse": lambda own, _: worker_pb2.ConnectRequest(
        run_refused=worker_pb2.RunRefused(attempt_uid=own.attempt_uid, epoch=own.epoch, reason="x" * (1 << 20))
    ),
}


async def say(worker: Any, stream: Any, run: Run, sequence: int) -> None:
    """Send a chunk and wait until it is durable."""
    await stream.write(log(run, block(chunk(sequence))))
    while (await worker.next_message(stream)).log_ack.next_sequence <= sequence:
        pass


async def cast(worker: Any, client: Client) -> list[tuple[str, str, Any, Run]]:
    """Have two jobs run by two workers, with a durable chunk each; return job, token, stream and what is run."""
    for _ in range(2):
        await client.submit(["true"])
    played = []
    for worker_id, otp in await worker.launched(2):
        token = await worker.register(worker_id, otp)
        stream, run = await worker.connect(token)
        await stream.write(started(run))
        await say(worker, stream, run, 0)
        played.append((run.job_id, token, stream, run))
    return played


async def shown(client: Client, job: str) -> bytes:
    """Return what the first attempt's log shows of the process."""
    events = [event async for event in client.logs(job, place=LogPlace(attempt=1), follow=False)]
    return b"".join(event.data for event in events if isinstance(event, Chunk) and event.stream == 1)


async def closing(worker: Any, stream: Any) -> str:
    """Return why the server closes a session."""
    async with asyncio.timeout(30):
        while True:
            message = await worker.next_message(stream)
            if message.WhichOneof("message") == "closed":
                reason: str = message.closed.reason
                return reason


@pytest.mark.parametrize("name", LIES)
async def test_a_liar_is_told_why_and_hurts_nobody(impostor: Cast, name: str) -> None:
    """W14, L07: its session ends; nothing of it is stored; others' streams, attempts and logs are as they were."""
    worker, client = impostor
    (_, token, lying, own), (honest_job, _, honest, other) = await cast(worker, client)
    with structlog.testing.capture_logs() as entries:
        await lying.write(LIES[name](own, other))
        assert await closing(worker, lying)
        assert await worker.ended(lying) is grpc.StatusCode.OK
    refused = [entry for entry in entries if entry["event"] == "worker.protocol_refused"]
    assert len(refused) == 1
    assert token not in repr(entries)
    assert worker.server.sessions.refusals == {"protocol": 1}
    await say(worker, honest, other, 1)
    terms = [chunk_checksum(number, log_pb2.LOG_STREAM_STDOUT, b"true\n") for number in range(2)]
    await honest.write(result(other, next_sequence=2, log_checksum=encode_checksum(add_checksums(*terms))))
    assert (await client.wait(honest_job)).exit_code == 0
    assert (await client.receipt(honest_job)).complete
    assert await shown(client, honest_job) == b"true\ntrue\n"
    async with asyncio.timeout(60):
        while (await client.get(own.job_id)).attempts[0].state < types_wire.JOB_STATE_SUCCEEDED:
            await asyncio.sleep(0.02)
    assert (await client.get(own.job_id)).attempts[0].outcome.cause == types_wire.CAUSE_WORKER_LOST
    assert await shown(client, own.job_id) == b"true\n"


async def test_frames_beyond_what_is_seen_end_the_session_after_a_while(impostor: Cast) -> None:
    """L07: the stream ends with gRPC's status; a few times the worker may come back, then its session ends, too."""
    worker, client = impostor
    (_, token, lying, own), _ = await cast(worker, client)
    held = worker_pb2.HeldAttempt(attempt_uid=own.attempt_uid, epoch=own.epoch, next_sequence=1, started=True)
    breaks, reason = 0, ""
    while not reason:
        assert worker.server.sessions.refusals == {}
        await lying.write(log(own, bytes(MAX_FRAME_BYTES)))
        assert await worker.ended(lying) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(MAX_FRAME_BYTES) in await lying.details()
        breaks += 1
        lying = worker.open(token)
        await lying.write(worker_pb2.ConnectRequest(hello=worker_pb2.WorkerHello(protocol_version=1, attempts=[held])))
        # Empty where it is welcome.
        reason = (await worker.next_message(lying)).closed.reason
    assert "beyond what gRPC takes" in reason
    assert breaks >= MAX_BREAKS
    assert await worker.ended(lying) is grpc.StatusCode.OK
    assert worker.server.sessions.refusals == {"protocol": 1}
    async with asyncio.timeout(60):
        while (await client.get(own.job_id)).attempts[0].state < types_wire.JOB_STATE_SUCCEEDED:
            await asyncio.sleep(0.02)
    assert (await client.get(own.job_id)).attempts[0].outcome.cause == types_wire.CAUSE_WORKER_LOST
    assert await shown(client, own.job_id) == b"true\n"


async def test_breaks_of_the_network_are_no_fault_of_the_worker(impostor: Cast) -> None:
    """However many there are: each brings a new connection, and the session goes on."""
    worker, client = impostor
    (_, token, _, own), _ = await cast(worker, client)
    held = worker_pb2.HeldAttempt(attempt_uid=own.attempt_uid, epoch=own.epoch, next_sequence=1, started=True)
    for _ in range(MAX_BREAKS + 2):
        async with open_channel(worker.server.worker_address) as channel:
            _, welcome = await type(worker)(channel, worker.server).greet(token, attempts=[held])
            assert not welcome.attempts[0].abandon
    assert worker.server.sessions.refusals == {}


async def test_a_checksum_of_another_log_is_told_and_the_worker_gets_nothing_more(impostor: Cast) -> None:
    """The outcome stands, the receipt says that the log is not whole, and the session ends with the reason."""
    worker, client = impostor
    (job, _, lying, own), (_, _, honest, other) = await cast(worker, client)
    await lying.write(result(own, exit_code=3))
    assert "checksum" in await closing(worker, lying)
    assert (await client.wait(job)).exit_code == 3
    assert not (await client.receipt(job)).complete
    assert await shown(client, job) == b"true\n"
    assert worker.server.sessions.refusals == {"protocol": 1}
    await say(worker, honest, other, 1)


async def test_a_workers_words_are_kept_as_one_line_that_can_be_stored(impostor: Cast) -> None:
    """Control characters and a megabyte of them stop nothing, on either database."""
    worker, client = impostor
    (job, _, stream, own), _ = await cast(worker, client)
    await stream.write(result(own, exit_code=1, message="\0\n\x1b" * 400_000 + "x", log_checksum=RIGHT))
    outcome = await client.wait(job)
    assert outcome.exit_code == 1
    assert outcome.message.isprintable()
    assert len(outcome.message) <= 1024


Held = worker_pb2.HeldAttempt

#: Hellos that no worker says, and the field that is named. HELLO stands for what is fine.
HELLO = worker_pb2.WorkerHello(protocol_version=1)
HELLOS: dict[str, tuple[worker_pb2.WorkerHello | bytes, str]] = {
    "an attempt without a uid": (worker_pb2.WorkerHello(attempts=[Held(epoch=1)]), "hello.attempts[0].attempt_uid"),
    "a long uid": (
        worker_pb2.WorkerHello(attempts=[Held(attempt_uid="x" * (1 << 20))]),
        "hello.attempts[0].attempt_uid",
    ),
    "a uid with a nul": (worker_pb2.WorkerHello(attempts=[Held(attempt_uid="a\0")]), "hello.attempts[0].attempt_uid"),
    "a negative epoch": (worker_pb2.WorkerHello(attempts=[Held(attempt_uid="a", epoch=-1)]), "hello.attempts[0].epoch"),
    "a place that there is not": (
        worker_pb2.WorkerHello(attempts=[Held(attempt_uid="a", next_sequence=1 << 63)]),
        "hello.attempts[0].next_sequence",
    ),
    "an attempt twice": (worker_pb2.WorkerHello(attempts=[Held(attempt_uid="a")] * 2), "hello.attempts"),
    "very many attempts": (
        worker_pb2.WorkerHello(attempts=[Held(attempt_uid=str(number)) for number in range(10_000)]),
        "hello.attempts",
    ),
    "a time before 1970": (worker_pb2.WorkerHello(time_unix_nanos=-1), "hello.time_unix_nanos"),
    "a long version": (worker_pb2.WorkerHello(worker_version="x" * (1 << 20)), "hello.worker_version"),
    "no protocol": (worker_pb2.WorkerHello(protocol_version=-1), "hello.protocol_version"),
    "an unknown field": (UNKNOWN_FIELD, "hello.1007"),
    "an unknown field of an attempt": (
        worker_pb2.WorkerHello(attempts=[Held.FromString(Held(attempt_uid="a").SerializeToString() + UNKNOWN_FIELD)]),
        "hello.attempts.1007",
    ),
}


@pytest.mark.parametrize("name", HELLOS)
async def test_a_hello_that_can_not_be_true_is_refused_by_its_field(impostor: Cast, name: str) -> None:
    """W38: the connection ends with INVALID_ARGUMENT and the session is as it was: a right hello is welcome."""
    worker, client = impostor
    await client.submit(["true"])
    token = await worker.register()
    hello, field = HELLOS[name]
    bad = hello if isinstance(hello, bytes) else hello.SerializeToString()
    # Later values of a field win, lists grow.
    whole = worker_pb2.WorkerHello.FromString(HELLO.SerializeToString() + bad)
    stream = worker.open(token)
    await stream.write(worker_pb2.ConnectRequest(hello=whole))
    assert await worker.ended(stream) is grpc.StatusCode.INVALID_ARGUMENT
    assert field in await stream.details()
    assert worker.server.sessions.refusals == {"hello": 1}
    _, run = await worker.connect(token)
    assert run.attempt_number == 1
