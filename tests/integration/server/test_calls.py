"""Calls under way have a bound: what is beyond it is refused before anything is done, and made again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hodei.refusals import reason, retry_after
from hodei.transport import open_channel
from hodei.v1 import job_pb2, job_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.instruments import CALLS_REFUSED

#: Calls one after the other, in which what was begun before them has long come to the server.
TRIES = 1000


@contextlib.contextmanager
def no_writes(server: Server) -> Iterator[None]:
    """Keep the database locked, as a backup tool may: calls that write are under way until it is not."""
    with contextlib.closing(sqlite3.connect(server.settings.data_dir / "hodei.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("COMMIT")


def refusals() -> float:
    """Return how many calls were refused so far."""
    return next(sample.value for metric in CALLS_REFUSED.collect() for sample in metric.samples)


def submission(**fields: Any) -> job_pb2.SubmitJobRequest:
    """Return a request for a job."""
    return job_pb2.SubmitJobRequest(spec=types_wire.JobSpec(argv=["true"], **fields))


async def submit(stub: job_pb2_grpc.JobServiceAsyncStub) -> str:
    """Submit a job, again where it was refused as too many calls were under way; return its id."""
    while True:
        try:
            response: job_pb2.SubmitJobResponse = await stub.SubmitJob(submission())
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        else:
            return response.job_id


async def call(stub: job_pb2_grpc.JobServiceAsyncStub) -> aio.AioRpcError:
    """Ask for a job that is not there; return what the server says."""
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.GetJob(job_pb2.GetJobRequest(job_id="none"))
    return caught.value


async def room(stub: job_pb2_grpc.JobServiceAsyncStub) -> None:
    """Call until the server takes calls again."""
    for _ in range(TRIES):
        if (await call(stub)).code() is grpc.StatusCode.NOT_FOUND:
            return
    pytest.fail("all calls are refused")


async def refusal(stub: job_pb2_grpc.JobServiceAsyncStub) -> aio.AioRpcError:
    """Call until the server takes no more; return what it says."""
    for _ in range(TRIES):
        error = await call(stub)
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            return error
    pytest.fail("no call is refused")


@pytest.fixture
async def few(make_settings: Any) -> AsyncIterator[tuple[Server, Client, aio.Channel]]:
    """Return a server that takes three calls at once, and who calls it."""
    async with (
        Server(make_settings(max_calls="3", max_watches="2", max_follows="1"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        yield server, client, channel


async def test_calls_beyond_the_bound_are_refused_and_a_client_makes_them_again(
    few: tuple[Server, Client, aio.Channel],
) -> None:
    """L08: with the setting's name and when to ask again; health is told and streams are opened all the same."""
    server, client, channel = few
    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
    job = await client.submit(["sleep", "600"])
    with no_writes(server):
        under_way = [asyncio.create_task(submit(stub)) for _ in range(3)]
        refused = await refusal(stub)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details() == "3 calls are under way already (HODEI_MAX_CALLS)"
        assert reason(refused) == "TOO_MANY_CALLS"
        assert retry_after(refused) > 0
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        assert await stub.WatchJob(job_pb2.WatchJobRequest(job_id=job)).read()
        before = refusals()
        patient = asyncio.create_task(client.submit(["true"]))
        async with asyncio.timeout(60):
            while refusals() < before + 2:
                await asyncio.sleep(0.01)
    assert (await client.wait(await patient)).state == types_wire.JOB_STATE_SUCCEEDED
    for started in await asyncio.gather(*under_way):
        assert (await client.wait(started)).state == types_wire.JOB_STATE_SUCCEEDED


async def test_a_call_that_is_given_up_makes_room(few: tuple[Server, Client, aio.Channel]) -> None:
    """L08: whatever becomes of its write; and those that have ended do."""
    server, client, channel = few
    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
    for _ in range(5):
        await client.submit(["true"])
    with no_writes(server):
        calls = [asyncio.create_task(submit(stub)) for _ in range(3)]
        await refusal(stub)
        calls[0].cancel()
        await room(stub)
    await asyncio.gather(*calls[1:])


async def test_the_requests_of_calls_under_way_have_a_bound_in_bytes(make_settings: Any) -> None:
    """L08: a few large ones take as much memory as many that are small."""
    async with (
        Server(make_settings(max_call_bytes="4Mi"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
        with no_writes(server):
            large = submission(stdin=bytes(1 << 20))
            calls = [asyncio.ensure_future(stub.SubmitJob(large)) for _ in range(4)]
            done, _ = await asyncio.wait(calls, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            [refused] = done
            error = refused.exception()
            assert isinstance(error, aio.AioRpcError)
            assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
            assert "HODEI_MAX_CALL_BYTES" in (error.details() or "")
            small = asyncio.ensure_future(stub.SubmitJob(submission()))
        for each in (*calls, small):
            if each is not refused:
                await client.wait((await each).job_id)


async def test_calls_of_which_the_request_does_not_come_have_a_bound(few: tuple[Server, Client, aio.Channel]) -> None:
    """L08: gRPC refuses what is more than twice the calls, and the streams; one that ends makes room."""
    _, _, channel = few
    begin: Any = channel.stream_unary("/hodei.v1.JobService/GetJob")
    calls = [begin() for _ in range(2 * 3 + 2 + 1 + 1)]
    ends = [asyncio.create_task(each.code()) for each in calls]
    done, _ = await asyncio.wait(ends, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert [end.result() for end in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    for each in calls:
        each.cancel()
    await room(job_pb2_grpc.JobServiceStub(channel))
    await asyncio.wait(ends)
