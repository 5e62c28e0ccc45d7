"""Sessions of workers over breaks, skewed clocks and moments that are easily missed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.checksum import encode_checksum
from hodei.v1 import log_pb2, provider_pb2, worker_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client
from hodei_server.loops.leases import Leases
from hodei_server.loops.presence import Presence

#: The impostor of conftest.py, and a client.
Cast = tuple[Any, Client]
HOUR = 3600 * 10**9
#: Seconds that nothing here takes.
PATIENCE = 25.0


async def until_attempt_ended(client: Client, job: str) -> types_wire.Job:
    """Wait for the end of a job's first attempt; return the job."""
    async with asyncio.timeout(60):
        while True:
            found = await client.get(job)
            if found.attempts and found.attempts[0].state >= types_wire.JOB_STATE_SUCCEEDED:
                return found
            await asyncio.sleep(0.02)


async def test_a_worker_that_pings_but_has_lost_its_attempt_is_given_up(impostor: Cast) -> None:
    """W20: its pings are answered; its next hello tells, the attempt is lost, and another one follows."""
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    stream, run = await worker.connect(token)
    start = worker_pb2.AttemptStarted(attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1)
    await stream.write(worker_pb2.ConnectRequest(started=start))
    async with asyncio.timeout(60):
        while (await client.get(job)).state != types_wire.JOB_STATE_RUNNING:
            await asyncio.sleep(0.02)
    await stream.write(worker_pb2.ConnectRequest(ping=worker_pb2.WorkerPing(number=7)))
    assert (await worker.next_message(stream)).pong.number == 7
    await worker.greet(token)
    ended = await until_attempt_ended(client, job)
    assert ended.attempts[0].outcome.cause == types_wire.CAUSE_WORKER_LOST
    assert ended.state in {types_wire.JOB_STATE_QUEUED, types_wire.JOB_STATE_STARTING}


@pytest.mark.parametrize("hours", [-9, 9])
async def test_a_worker_whose_clock_is_hours_off_is_let_in(impostor: Cast, hours: int) -> None:
    """W25: only the server's clock judges; the worker is told what to add to its own."""
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    stream, welcome = await worker.greet(token, time_unix_nanos=time.time_ns() + hours * HOUR)
    assert abs(welcome.clock_offset_nanos + hours * HOUR) < HOUR
    run = (await worker.next_message(stream)).run
    start = worker_pb2.AttemptStarted(
        attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1, time_unix_nanos=time.time_ns() + hours * HOUR
    )
    await stream.write(worker_pb2.ConnectRequest(started=start))
    async with asyncio.timeout(60):
        while (found := await client.get(job)).state != types_wire.JOB_STATE_RUNNING:
            await asyncio.sleep(0.02)
    assert abs(found.start_time.ToNanoseconds() - time.time_ns()) < HOUR


async def test_what_is_dispatched_before_the_hello_comes_after_it(impostor: Cast) -> None:
    """W33: a registered worker is not ready, and nothing of what it was given gets lost."""
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    listed = [each async for each in client.workers()]
    assert [(each.state, each.connected) for each in listed] == [(provider_pb2.WORKER_STATE_STARTING, False)]
    assert (await client.get(job)).state == types_wire.JOB_STATE_STARTING
    stream, run = await worker.connect(token)
    assert run.job_id == job
    # Lost on its way, too: asked for again by a hello that does not have it.
    again, repeated = await worker.connect(token)
    assert repeated == run
    assert [each.state async for each in client.workers()] == [provider_pb2.WORKER_STATE_BUSY]
    del stream, again


async def test_the_end_of_an_old_stream_leaves_the_new_connection_alone(impostor: Cast) -> None:
    """W34: the clean-up compares identity; what is said afterwards reaches the new one."""
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    old, run = await worker.connect(token)
    held = worker_pb2.HeldAttempt(attempt_uid=run.attempt_uid, epoch=run.epoch)
    new, _ = await worker.greet(token, attempts=[held])
    # Over with all of its clean-up.
    await worker.ended(old)
    assert [each.connected async for each in client.workers()] == [True]
    await client.cancel(job)
    assert (await worker.next_message(new)).cancel.attempt_uid == run.attempt_uid


async def test_a_job_cancelled_while_its_worker_starts_is_never_run(impostor: Cast) -> None:
    """W16: the pending worker is removed, its token is worth nothing, and the job ends as cancelled."""
    worker, client = impostor
    job = await client.submit(["true"])
    worker_id, otp = await worker.credentials()
    assert (await client.get(job)).state == types_wire.JOB_STATE_STARTING
    await client.cancel(job)
    async with asyncio.timeout(30):
        assert (await client.wait(job)).state == types_wire.JOB_STATE_CANCELLED
    with pytest.raises(aio.AioRpcError) as caught:
        await worker.register(worker_id, otp)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [each async for each in client.workers()] == []


async def test_the_log_of_a_worker_that_is_gone_is_not_waited_for(impostor: Cast) -> None:
    """L01: the job ends as soon as nothing more can come, with its own outcome; its log says that it is not whole."""
    worker, client = impostor
    assert worker.server.settings.log_wait > PATIENCE
    job = await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    chunk = log_pb2.LogChunk(sequence=0, time_unix_nanos=1, stream=log_pb2.LOG_STREAM_STDOUT, data=b"x")
    names = {"attempt_uid": run.attempt_uid, "epoch": run.epoch}
    block = log_pb2.LogBlock(chunks=[chunk]).SerializeToString()
    await stream.write(worker_pb2.ConnectRequest(log=worker_pb2.LogBlocks(block=block, **names)))
    result = worker_pb2.AttemptResult(cause=types_wire.CAUSE_EXIT_CODE, exit_code=0, next_sequence=2, **names)
    result.log_checksum = encode_checksum(0)
    await stream.write(worker_pb2.ConnectRequest(result=result))
    async with asyncio.timeout(PATIENCE):
        while (await client.get(job)).state != types_wire.JOB_STATE_FINISHING:
            await asyncio.sleep(0.02)
        stream.cancel()
        os.kill(await worker.pid(), signal.SIGKILL)
        assert (await client.wait(job)).exit_code == 0
    receipt = await client.receipt(job)
    assert (receipt.chunks, receipt.complete, receipt.ended) == (1, False, True)


@pytest.mark.parametrize("heard", [False, True])
async def test_a_log_is_not_called_whole_whose_worker_is_lost_with_what_it_had_to_say(
    impostor: Cast, *, heard: bool
) -> None:
    """L01: it was told to run the job, and may have; nobody has heard of that, or only of what it holds, by a hello."""
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    stream, run = await worker.connect(token)
    if heard:
        stream.cancel()
        held = worker_pb2.HeldAttempt(attempt_uid=run.attempt_uid, epoch=run.epoch, started=True, next_sequence=50)
        stream, _ = await worker.greet(token, attempts=[held])
    stream.cancel()
    os.kill(await worker.pid(), signal.SIGKILL)
    ended = await until_attempt_ended(client, job)
    assert ended.attempts[0].outcome.cause == types_wire.CAUSE_WORKER_LOST
    receipt = await client.receipt(job, attempt=1)
    assert (receipt.complete, receipt.ended) == (False, True)


async def test_the_log_of_a_job_that_its_worker_refuses_is_whole(impostor: Cast) -> None:
    """L01: nothing of it has run."""
    worker, client = impostor
    job = await client.submit(["true"])
    stream, run = await worker.connect(await worker.register())
    refused = worker_pb2.RunRefused(attempt_uid=run.attempt_uid, epoch=run.epoch, reason="no")
    await stream.write(worker_pb2.ConnectRequest(run_refused=refused))
    ended = await until_attempt_ended(client, job)
    assert ended.attempts[0].outcome.cause == types_wire.CAUSE_PROVIDER_ERROR
    assert (await client.receipt(job, attempt=1)).complete


async def test_a_worker_between_registration_and_hello_is_not_silent_since_the_servers_start(
    impostor: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W03, W19, W33: though the server has run for hours, and looks at all workers just then."""
    looks: asyncio.Queue[list[str]] = asyncio.Queue()
    check = Leases.check

    async def seen(self: Leases, rows: Any) -> None:
        await check(self, rows)
        looks.put_nowait([row["worker_id"] for row in rows if row["registered_at"]])

    monkeypatch.setattr(Leases, "check", seen)
    monkeypatch.setattr(Presence, "since", lambda _self: time.monotonic() - 10 * 3600)
    worker, client = impostor
    job = await client.submit(["true"])
    token = await worker.register()
    async with asyncio.timeout(60):
        while not await looks.get():
            pass
        await looks.get()
    _, run = await worker.connect(token)
    (attempt,) = (await client.get(job)).attempts
    assert run.attempt_uid == attempt.attempt_uid
