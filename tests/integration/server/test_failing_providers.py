"""A whole server on providers that fail, each in its own way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from typing import Any

import pytest
from grpc import aio

from hodei.checksum import encode_checksum
from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2, worker_pb2_grpc
from hodei_client import Client, ClientSettings
from hodei_providers.contract import ExitReason, LaunchRequest
from hodei_providers.memory import (
    AsksForPatience,
    FailsToLaunch,
    LaunchAnswerLost,
    MemoryProvider,
    NotGoneAtOnce,
    OutOfQuota,
    OutOfReach,
    OutOfSight,
    SaysNever,
)
from hodei_server.app import Server
from hodei_server.db.transaction import Transaction
from hodei_server.domain import breaker
from hodei_server.settings import Settings
from hodei_server.work import pools

MakeSettings = Callable[..., Settings]
SOME = wire.JobSpec(argv=["true"])
Enter = Callable[[MemoryProvider], contextlib.AbstractAsyncContextManager[tuple[Server, Client]]]


@pytest.fixture
def enter(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Return what runs a server with one provider."""

    @contextlib.asynccontextmanager
    async def run(provider: MemoryProvider) -> AsyncIterator[tuple[Server, Client]]:
        monkeypatch.setattr("hodei_server.opening.load_provider", lambda *_, **__: provider)
        async with (
            Server(make_settings(lease="1s", ping_interval="1s"), ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            yield server, client

    return run


async def play(server: Server, request: LaunchRequest) -> None:
    """Be a worker that runs its job, which prints nothing and ends well; it answers pings meanwhile."""
    async with aio.insecure_channel(server.worker_address.target) as channel:
        stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
        names = {"worker_id": request.worker_id, "otp": request.otp, "nonce": bytes(16), "protocol_version": 1}
        registered = await stub.Register(worker_pb2.RegisterRequest(**names))  # type: ignore[arg-type]
        stream = stub.Connect(metadata=(("authorization", f"Bearer {registered.session_token}"),))
        await stream.write(worker_pb2.ConnectRequest(hello=worker_pb2.WorkerHello(protocol_version=1)))
        while True:
            message = await stream.read()
            assert isinstance(message, worker_pb2.ConnectResponse)
            if message.HasField("run"):
                run = message.run
                result = worker_pb2.AttemptResult(
                    attempt_uid=run.attempt_uid,
                    epoch=run.epoch,
                    cause=wire.CAUSE_EXIT_CODE,
                    exit_code=0,
                    log_checksum=encode_checksum(0),
                )
                await stream.write(worker_pb2.ConnectRequest(result=result))
            if message.HasField("ping"):
                await stream.write(worker_pb2.ConnectRequest(pong=worker_pb2.WorkerPong()))
            if message.HasField("result_ack"):
                return


async def launched(provider: MemoryProvider) -> LaunchRequest:
    """Wait for a worker."""
    async with asyncio.timeout(60):
        while not provider.infrastructure:
            await asyncio.sleep(0.01)
    return next(iter(provider.infrastructure.values())).request


async def test_a_launch_whose_answer_was_lost_is_looked_for(enter: Enter) -> None:
    """W13: the provider says that it failed, the worker is there: it is taken, and no other is launched."""
    provider = LaunchAnswerLost()
    async with enter(provider) as (server, client):
        job = await client.submit(["true"])
        await play(server, await launched(provider))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert [attempt.number for attempt in (await client.get(job)).attempts] == [1]


async def test_a_launch_that_failed_is_made_again_by_another_attempt(enter: Enter) -> None:
    """W08: as the infrastructure's failure, with the provider's words."""
    provider = FailsToLaunch()
    async with enter(provider) as (server, client):
        spec = wire.JobSpec(argv=["true"])
        spec.retry.initial_backoff.FromMilliseconds(1)
        job = await client.submit(spec)
        await play(server, await launched(provider))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        first, second = (await client.get(job)).attempts
        assert (first.outcome.cause, second.outcome.cause) == (wire.CAUSE_PROVIDER_ERROR, wire.CAUSE_EXIT_CODE)
        assert "can't be reached" in first.outcome.message


async def test_a_job_that_never_started_waits_for_no_provider_to_confirm_that(enter: Enter) -> None:
    """W08: its provider is out of reach, so nobody can say that its worker is gone; but that worker never had it."""
    provider = OutOfReach()
    async with enter(provider) as (server, client):
        job = await client.submit(["true"], retry=wire.RetryPolicy(max_infrastructure_retries=1))
        async with asyncio.timeout(60):
            while len((await client.get(job)).attempts) < 2:
                await asyncio.sleep(0.02)
        first = (await client.get(job)).attempts[0]
        assert (first.state, first.outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_PROVIDER_ERROR)
        assert "can't be reached to confirm" in first.outcome.message
        assert (await client.wait(job)).state == wire.JOB_STATE_FAILED
        provider.back = True
        again = await client.submit(["true"])
        await play(server, await launched(provider))
        assert (await client.wait(again)).state == wire.JOB_STATE_SUCCEEDED


async def test_a_worker_that_is_out_of_sight_and_never_had_its_job_is_replaced_at_once(enter: Enter) -> None:
    """W08, W09: nobody can say that it has ended, and it is let in no more."""
    provider = OutOfSight()
    async with enter(provider) as (server, client):
        job = await client.submit(["true"], retry=wire.RetryPolicy(max_infrastructure_retries=1))
        first = await launched(provider)
        provider.lose(first.worker_id)
        async with asyncio.timeout(60):
            while len(provider.infrastructure) < 2:
                await asyncio.sleep(0.02)
        (second,) = (each for each in provider.infrastructure.values() if each.request.worker_id != first.worker_id)
        await play(server, second.request)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        lost = (await client.get(job)).attempts[0].outcome
        assert lost.cause == wire.CAUSE_WORKER_LOST
        assert "has lost sight of it" in lost.message
        provider.lost.clear()


async def test_a_provider_without_room_does_not_fail_the_job_at_once(enter: Enter) -> None:
    """W04: no room is tried again with back-off, and `explain` tells why it waits."""
    async with enter(OutOfQuota()) as (_, client):
        job = await client.submit(["true"])
        async with asyncio.timeout(30):
            while len((await client.get(job)).attempts) < 2:
                await asyncio.sleep(0.02)
        assert "no room" in " ".join(event.reason for event in (await client.explain(job)).events)
        assert (await client.get(job)).attempts[0].outcome.cause == wire.CAUSE_QUOTA
        await client.cancel(job)
        assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED


async def test_a_provider_that_asks_for_patience_gets_it_and_costs_its_job_one_attempt(enter: Enter) -> None:
    """W04, W28: for as long as it asks no launch is tried there, however soon the job may be tried again."""
    provider = AsksForPatience()
    async with enter(provider) as (server, client):
        retry = wire.RetryPolicy(max_infrastructure_retries=1)
        retry.initial_backoff.FromMilliseconds(1)
        job = await client.submit(["true"], retry=retry)
        await play(server, await launched(provider))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        causes = [attempt.outcome.cause for attempt in (await client.get(job)).attempts]
        assert causes == [wire.CAUSE_QUOTA, wire.CAUSE_EXIT_CODE]


async def test_a_worker_that_has_started_since_it_was_given_up_is_looked_at_again(enter: Enter) -> None:
    """W03: its provider's watch says that it will never start, and the provider itself that it runs: it runs."""
    provider = SaysNever()
    async with enter(provider) as (server, client):
        job = await client.submit(["true"], retry=wire.RetryPolicy(max_infrastructure_retries=0))
        request = await launched(provider)
        async with asyncio.timeout(30):
            await provider.told.wait()
        await play(server, request)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert len((await client.get(job)).attempts) == 1


async def test_no_attempt_begins_before_the_one_before_is_gone(enter: Enter) -> None:
    """W14: `destroy` says no twice; only once it says yes is there another worker."""
    provider = NotGoneAtOnce()
    seen: list[int] = []
    destroy = provider.destroy

    async def watched(*arguments: object, **named: object) -> bool:
        seen.append(len(provider.infrastructure))
        return await destroy(*arguments, **named)  # type: ignore[arg-type]

    provider.destroy = watched  # type: ignore[method-assign]
    async with enter(provider) as (server, client):
        spec = wire.JobSpec(argv=["true"])
        spec.retry.initial_backoff.FromMilliseconds(1)
        job = await client.submit(spec)
        first = await launched(provider)
        provider.end(first.worker_id, 1)
        async with asyncio.timeout(60):
            while first.worker_id in provider.infrastructure:
                # The job has not moved on while its worker might still be there, as it is when the answer has come.
                attempts = len((await client.get(job)).attempts)
                assert attempts == 1 or first.worker_id not in provider.infrastructure
                await asyncio.sleep(0.01)
        assert seen[:3] == [1, 1, 1]
        await play(server, await launched(provider))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (ExitReason.OUT_OF_MEMORY, wire.CAUSE_OUT_OF_MEMORY),
        (ExitReason.EVICTED, wire.CAUSE_EVICTED),
        (ExitReason.DEADLINE, wire.CAUSE_START_TIMEOUT),
        (ExitReason.EXITED, wire.CAUSE_WORKER_LOST),
    ],
)
async def test_why_a_worker_ended_before_it_connected_is_told_by_the_server_that_comes_after(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, reason: ExitReason, cause: wire.Cause.ValueType
) -> None:
    """W06, W11: nobody was there when it ended; the provider still says how."""
    provider = MemoryProvider()
    monkeypatch.setattr("hodei_server.opening.load_provider", lambda *_, **__: provider)
    retry = wire.RetryPolicy(max_infrastructure_retries=0)
    async with Server(make_settings()) as first, Client(settings=ClientSettings(first.address)) as client:
        job = await client.submit(["true"], retry=retry)
        request = await launched(provider)
    provider.end(request.worker_id, 137, reason)
    async with (
        Server(make_settings(), ephemeral=True) as second,
        Client(settings=ClientSettings(second.address)) as client,
    ):
        assert (await client.wait(job)).cause == cause


@pytest.mark.parametrize("open_for", [0.0, 3600.0])
async def test_a_pool_heeds_the_breaker_of_its_provider(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, open_for: float
) -> None:
    """W28: its launches count; none follow while the breaker is open, and then one shows whether it works again."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "2")
    monkeypatch.setattr(pools, "FIRST_BACK_OFF_SECONDS", 0.0)
    monkeypatch.setattr(breaker, "FIRST_SECONDS", open_for)
    probes: list[int] = []
    looks = 0
    fill = pools.Pools._fill

    def counted(self: pools.Pools, tx: Transaction, wanted: Any, probed: AbstractSet[str]) -> Any:
        nonlocal looks
        started, late = fill(self, tx, wanted, probed)
        looks += 1
        if probed:
            probes.append(len(started))
        return started, late

    monkeypatch.setattr(pools.Pools, "_fill", counted)
    provider = FailsToLaunch()
    provider.failures = 1000
    async with enter(provider) as (_, client):
        async with asyncio.timeout(60):
            while sum(probes) < 2 and "its breaker is open" not in (await client.plan(SOME)).reason:
                await asyncio.sleep(0.02)
            seen = looks
            while looks < seen + 3:
                await asyncio.sleep(0.02)
        launched = len([each async for each in client.workers(include_gone=True)])
    if open_for:
        assert 3 <= launched <= 4
    else:
        assert max(probes) == 1
