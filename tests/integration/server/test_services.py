"""What the services promise beside running jobs: pages, limits, drains, other databases."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio
from sqlalchemy import make_url, text

from hodei.transport import open_channel
from hodei.v1 import job_pb2, job_pb2_grpc, log_pb2, log_pb2_grpc, provider_pb2, provider_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults.needs import lacks
from hodei_providers.registry import ProviderSetupError
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema_version import SchemaVersionError, upgrade
from hodei_server.rpc.log_page import SCAN_BYTES


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[aio.Channel]:
    """Return a bare channel to the server."""
    async with open_channel(server.address) as opened:
        yield opened


async def test_history_comes_in_pages_that_fit_together(client: Client, channel: aio.Channel) -> None:
    """Every chunk once, in order, whatever the pages' size."""
    job = await client.submit(["sh", "-c", "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; sleep 0.01; done"])
    await client.wait(job)
    stub: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(channel)
    found: list[log_pb2.LogChunk] = []
    token = ""
    while True:
        page: log_pb2.GetLogsResponse = await stub.GetLogs(
            log_pb2.GetLogsRequest(job_id=job, attempt_number=1, page_size=3, page_token=token)
        )
        assert len(page.chunks) <= 3
        found += page.chunks
        token = page.next_page_token
        if not token:
            break
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetLogs(log_pb2.GetLogsRequest(job_id=job, page_token=token))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [chunk.sequence for chunk in found] == list(range(len(found)))
    assert sum(len(chunk.data) for chunk in found) == (await client.receipt(job)).bytes


async def test_a_page_of_a_stream_that_says_little_comes_back_short_and_its_token_goes_on(
    client: Client, channel: aio.Channel
) -> None:
    """L09: one call looks through a part of the log, however much of it is of other streams."""
    job = await client.submit(["sh", "-c", "yes 'a line of a log' | head -c 20M; echo here >&2"])
    await client.wait(job)
    stub: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(channel)
    request = log_pb2.GetLogsRequest(job_id=job, streams=[log_pb2.LOG_STREAM_STDERR])
    page: log_pb2.GetLogsResponse = await stub.GetLogs(request)
    calls = 1
    while page.next_page_token:
        assert not page.chunks
        request.page_token = page.next_page_token
        page = await stub.GetLogs(request)
        calls += 1
    assert [chunk.data for chunk in page.chunks] == [b"here\n"]
    assert calls == 20 * (1 << 20) // SCAN_BYTES + 1


async def test_jobs_come_in_pages_and_a_token_belongs_to_its_question(client: Client, channel: aio.Channel) -> None:
    """Another filter with an old token is refused, not answered with something else."""
    jobs = [await client.submit(["true"], name=f"n{number}") for number in range(5)]
    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
    first: job_pb2.ListJobsResponse = await stub.ListJobs(job_pb2.ListJobsRequest(page_size=2))
    assert [job.job_id for job in first.jobs] == jobs[:2:-1]
    second: job_pb2.ListJobsResponse = await stub.ListJobs(
        job_pb2.ListJobsRequest(page_size=3, page_token=first.next_page_token)
    )
    assert [job.job_id for job in second.jobs] == jobs[2::-1]
    for wrong in (
        job_pb2.ListJobsRequest(name="n1", page_token=first.next_page_token),
        job_pb2.ListJobsRequest(page_token="nonsense"),
        job_pb2.ListJobsRequest(page_size=-1),
        job_pb2.ListJobsRequest(states=[99]),  # type: ignore[list-item]  # what a newer client may send
        job_pb2.ListJobsRequest(tenant="A B"),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListJobs(wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["GetJob", "CancelJob", "RetryJob", "WatchJob", "ExplainJob"])
async def test_a_missing_name_is_named(channel: aio.Channel, method: str) -> None:
    """Every call that needs a job says so."""
    request = getattr(job_pb2, f"{method}Request")()
    call = getattr(job_pb2_grpc.JobServiceStub(channel), method)(request)
    with pytest.raises(aio.AioRpcError) as caught:
        await (call.read() if method == "WatchJob" else call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "job_id" in (caught.value.details() or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt_number": -1},
        {"attempt_number": 1, "attempt_uid": "x"},
        {"tail_lines": -1},
        {"streams": [9]},
    ],
    ids=str,
)
async def test_a_log_request_that_makes_no_sense_is_refused(
    client: Client, channel: aio.Channel, fields: dict[str, object]
) -> None:
    """By the name of the field, before anything is sent."""
    job = await client.submit(["true"])
    request = log_pb2.StreamLogsRequest(job_id=job, **fields)  # type: ignore[arg-type]
    with pytest.raises(aio.AioRpcError) as caught:
        await log_pb2_grpc.LogStreamServiceStub(channel).StreamLogs(request).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("of", ["job", "client"])
async def test_open_streams_have_a_bound(make_settings: object, of: str) -> None:
    """L08: further ones are refused, and those that end make room; one client's count together, whatever their jobs."""
    assert callable(make_settings)
    async with (
        Server(make_settings(**{f"max_follows_per_{of}": "2"}), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        jobs = [await client.submit(["sh", "-c", "echo here; exec sleep 600"]) for _ in range(1 if of == "job" else 2)]
        stub = log_pb2_grpc.LogStreamServiceStub(channel)
        request = log_pb2.StreamLogsRequest(job_id=jobs[0], follow=True)
        calls = [stub.StreamLogs(log_pb2.StreamLogsRequest(job_id=job, follow=True)) for job in (jobs[0], jobs[-1])]
        for call in calls:
            await call.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.StreamLogs(request).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"2 open log streams of this {of}" in (caught.value.details() or "")
        calls[-1].cancel()
        async with asyncio.timeout(60):
            while True:
                again = stub.StreamLogs(request)
                try:
                    await again.read()
                    break
                except aio.AioRpcError:
                    await asyncio.sleep(0.02)
        for job in jobs:
            await client.cancel(job, force=True)
            await client.wait(job)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_pruning_counts_as_a_log_stream(make_settings: object, dry_run: bool) -> None:  # noqa: FBT001 - pytest's way
    """L08: it reads, and may remove, all that there is; also where it is only told what would go."""
    assert callable(make_settings)
    async with (
        Server(make_settings(max_follows="1"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        job = await client.submit(["sh", "-c", "echo here; exec sleep 600"])
        stub = log_pb2_grpc.LogStreamServiceStub(channel)
        following = stub.StreamLogs(log_pb2.StreamLogsRequest(job_id=job, follow=True))
        await following.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.PruneLogs(log_pb2.PruneLogsRequest(dry_run=dry_run)).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "there are 1 open log streams of this server already"
        following.cancel()


@pytest.mark.parametrize("of", ["server", "client"])
async def test_open_watches_have_a_bound(make_settings: object, of: str) -> None:
    """L08: further ones are refused in words, whatever their jobs; those that end make room, and who waits gets in."""
    assert callable(make_settings)
    setting = {"server": "max_watches", "client": "max_watches_per_client"}[of]
    async with (
        Server(make_settings(**{setting: "2"}), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        jobs = [await client.submit(["sleep", "600"]) for _ in range(2)]
        stub = job_pb2_grpc.JobServiceStub(channel)
        calls = [stub.WatchJob(job_pb2.WatchJobRequest(job_id=job)) for job in jobs]
        for call in calls:
            await call.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.WatchJob(job_pb2.WatchJobRequest(job_id=jobs[0])).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == f"there are 2 open watches of this {of} already"
        waiting = asyncio.create_task(client.wait(jobs[0]))
        await client.cancel(jobs[0], force=True)
        assert (await waiting).cause == types_wire.CAUSE_CANCELLED
        calls[1].cancel()
        await client.cancel(jobs[1], force=True)
        assert (await client.wait(jobs[1])).cause == types_wire.CAUSE_CANCELLED


async def test_a_reused_worker_runs_one_job_after_the_other(make_settings: object) -> None:
    """Then it is drained, and goes."""
    assert callable(make_settings)
    async with (
        Server(make_settings(worker_max_jobs="0"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        open_channel(server.address) as channel,
    ):
        workers = set()
        for _ in range(3):
            job = await client.submit(["true"])
            await client.wait(job)
            workers.add((await client.get(job)).attempts[0].worker_id)
        assert len(workers) == 1
        worker_id = workers.pop()
        stub = provider_pb2_grpc.ProviderServiceStub(channel)
        await stub.DrainWorker(provider_pb2.DrainWorkerRequest(worker_id=worker_id))
        async with asyncio.timeout(60):
            while [worker async for worker in client.workers()]:
                await asyncio.sleep(0.05)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.DrainWorker(provider_pb2.DrainWorkerRequest(worker_id="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_streams_choice_leaves_the_other_out(client: Client) -> None:
    """One stream, whole and in order."""
    job = await client.submit(["sh", "-c", "for i in 1 2 3; do echo $i; echo e$i >&2; done"])
    events = [event async for event in client.logs(job, streams=[log_pb2.LOG_STREAM_STDERR])]
    assert b"".join(event.data for event in events if isinstance(event, Chunk)) == b"e1\ne2\ne3\n"


async def test_compressed_streams_carry_the_same(client: Client) -> None:
    """Asked for by the client."""
    job = await client.submit(["seq", "10000"])
    plain = [event async for event in client.logs(job)]
    compressed = [event async for event in client.logs(job, compress=True)]
    assert plain == compressed


async def test_a_provider_that_gives_workers_up_too_early_keeps_the_server_from_starting(
    make_settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a cluster is asked for anything: a job could run twice."""
    assert callable(make_settings)
    monkeypatch.setenv("HODEI_K8S_LOST_NODE_TIMEOUT", "1m")
    settings = make_settings(providers="kubernetes", orphan_after="61s")
    with pytest.raises(ProviderSetupError, match=r"HODEI_K8S_LOST_NODE_TIMEOUT.*HODEI_ORPHAN_AFTER"):
        await Server(settings).__aenter__()


async def test_postgresql_serves_as_well(make_settings: object) -> None:
    """An old schema is refused by the command that mends it; then the same jobs run on it."""
    assert callable(make_settings)
    url = os.environ.get("HODEI_TEST_DATABASE_URL")
    if not url:
        lacks("HODEI_TEST_DATABASE_URL names no PostgreSQL")
    name = f"hodei_test_{secrets.token_hex(6)}"
    admin = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    own = make_url(url).set(database=name).render_as_string(hide_password=False)
    settings = make_settings(database_url=own)
    try:
        with pytest.raises(SchemaVersionError, match="hodei db upgrade"):
            await Server(settings).__aenter__()
        engine = open_engine(own)
        upgrade(engine)
        engine.dispose()
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            jobs = [await client.submit(["sh", "-c", f"echo {number}; exit {number}"]) for number in range(4)]
            outcomes = [await client.wait(job) for job in jobs]
            assert [outcome.exit_code for outcome in outcomes] == [0, 1, 2, 3]
            assert outcomes[0].state == types_wire.JOB_STATE_SUCCEEDED
            assert (await client.explain(jobs[3])).queue_position == 0
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
