"""A cluster that makes no pods for a while: it is left alone, tried once, and used again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.api_proxy import ApiProxy, Fault
from hodei_faults.cluster import nothing_left, until
from hodei_server.app import Server
from hodei_server.settings import Settings

SOON = wire.RetryPolicy(max_infrastructure_retries=50)
SOON.initial_backoff.FromMilliseconds(1)
SOON.max_backoff.FromMilliseconds(1)


def makes_a_pod(method: str, path: str, query: Any) -> bool:
    """Whether a call makes a pod; the provider's health only tries to."""
    return method == "POST" and path.endswith("/pods") and "dryRun" not in query


@pytest.fixture
def settings(make_settings: Callable[..., Settings], proxy: ApiProxy, orders: Any, tmp_path: Path) -> Settings:
    """Return the settings of a server that reaches the cluster through the proxy."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(proxy.kubeconfig())
    return make_settings(KUBECONFIG=str(kubeconfig), SERVER_ADDRESS=orders.host, API_TIMEOUT="5m")


async def test_a_breaker_opens_lets_one_pod_be_tried_and_closes(
    settings: Settings, api: Any, namespace: str, proxy: ApiProxy
) -> None:
    """W28: the jobs wait and are told why; one of them tries the cluster, the others go when its worker is there."""
    proxy.faults.append(Fault(makes_a_pod, times=1000, status=503))
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        jobs = [await client.submit(["true"], retry=SOON) for _ in range(6)]

        async def states() -> list[int]:
            return [(await client.get(job)).state for job in jobs]

        async def told(job: str, words: str) -> bool:
            reason = (await client.explain(job)).providers[0].reason
            return "its breaker is open: " in reason and words in reason

        async def left_alone() -> bool:
            return set(await states()) == {wire.JOB_STATE_QUEUED} and await told(jobs[-1], "it is tried again in")

        await until(left_alone)
        released = asyncio.Event()
        proxy.faults[:] = [tried := Fault(makes_a_pod, times=1000, hold=released)]

        async def is_tried() -> bool:
            return tried.times < 1000 and sorted(await states()).count(wire.JOB_STATE_STARTING) == 1

        await until(is_tried)
        waits = await client.submit(["true"], retry=SOON)
        jobs.append(waits)

        async def waits_for_it() -> bool:
            return await told(waits, "it is being tried again")

        await until(waits_for_it)
        assert sorted(await states()) == [wire.JOB_STATE_QUEUED] * 6 + [wire.JOB_STATE_STARTING]
        assert tried.times == 999
        # It is in order, as far as anybody can tell who makes no pods.
        assert (await client.provider("kubernetes")).healthy
        released.set()
        for job in jobs:
            outcome = await client.wait(job)
            assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
        found = [attempt for job in jobs for attempt in (await client.get(job)).attempts]
        assert {each.outcome.cause for each in found} == {wire.CAUSE_PROVIDER_ERROR, wire.CAUSE_EXIT_CODE}
        assert "breaker" not in (await client.plan(wire.JobSpec(argv=["true"]))).reason
        await nothing_left(api, namespace)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_api_that_asks_for_patience_costs_a_job_one_attempt(
    settings: Settings, api: Any, namespace: str, proxy: ApiProxy, status: int
) -> None:
    """W04, W28: of few retries that could follow at once; those that are submitted meanwhile have none at all."""
    none = wire.RetryPolicy(max_infrastructure_retries=0)
    one = wire.RetryPolicy(max_infrastructure_retries=1)
    one.initial_backoff.FromMilliseconds(1)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:

        async def is_well() -> bool:
            return (await client.provider("kubernetes")).healthy

        await until(is_well)
        # More than a call waits for by itself.
        proxy.faults.append(Fault(makes_a_pod, status=status, headers={"Retry-After": "12"}))
        first = await client.submit(["true"], retry=one)

        async def has_failed() -> bool:
            return any(attempt.HasField("outcome") for attempt in (await client.get(first)).attempts)

        await until(has_failed)
        second = await client.submit(["true"], retry=none)
        for job, expected in ((first, 2), (second, 1)):
            outcome = await client.wait(job)
            assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
            assert len((await client.get(job)).attempts) == expected
        await nothing_left(api, namespace)
