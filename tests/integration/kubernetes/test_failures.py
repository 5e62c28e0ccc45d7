"""What goes wrong on a real cluster, by having it go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_client.logs import SYSTEM
from hodei_server.app import Server

MakeSettings = Callable[..., Any]


@pytest.fixture
async def once(make_settings: MakeSettings) -> AsyncIterator[Client]:
    """Return a client of a server that gives images that can't be pulled three seconds."""
    async with (
        Server(make_settings(IMAGE_PULL_GRACE="3s"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        yield client


NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


async def system_log(client: Client, job: str) -> str:
    """Return what the server says in a job's log."""
    found = b""
    async for event in client.logs(job):
        if getattr(event, "stream", None) == SYSTEM:
            found += event.data  # type: ignore[union-attr]  # only chunks have a stream
    return found.decode()


async def running_pod(api: Any, namespace: str) -> str:
    """Wait for the one worker of a namespace to run, and return its pod's name."""
    async with asyncio.timeout(60):
        while True:
            answer = await api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector="hodei.io/managed=true")
            for pod in answer["items"]:
                if pod["status"]["phase"] == "Running":
                    return str(pod["metadata"]["name"])
            await asyncio.sleep(0.1)


async def started(client: Client, job: str) -> None:
    """Wait for a job to run."""
    async with asyncio.timeout(60):
        while (await client.get(job)).state != wire.JOB_STATE_RUNNING:
            await asyncio.sleep(0.05)


async def test_an_image_that_cannot_be_pulled_fails_with_the_runtimes_words(once: Client) -> None:
    """W01, L17: typed, and the log says why."""
    job = await once.submit(["true"], image="registry.invalid/none:1", retry=NEVER_AGAIN)
    async with asyncio.timeout(60):
        outcome = await once.wait(job)
    assert outcome.cause == wire.CAUSE_IMAGE, outcome
    assert "registry.invalid/none:1" in await system_log(once, job)


async def test_an_image_without_a_name_fails_at_once(client: Client) -> None:
    """W01: what can't heal is not waited for."""
    job = await client.submit(["true"], image="Not/A:Valid:Name", retry=NEVER_AGAIN)
    async with asyncio.timeout(40):
        outcome = await client.wait(job)
    assert outcome.cause in {wire.CAUSE_IMAGE, wire.CAUSE_UNSCHEDULABLE}, outcome
    assert "InvalidImageName" in outcome.message + await system_log(client, job)


async def test_a_job_that_fits_no_node_says_so_in_the_schedulers_words(client: Client) -> None:
    """W02, W16: in explain and in the log; cancelling it while it waits takes its pod away."""
    job = await client.submit(["true"], resources=wire.Resources(cpu_millis=1_000_000 // 20))
    async with asyncio.timeout(60):
        while "Insufficient cpu" not in " ".join((await client.explain(job)).diagnosis):
            await asyncio.sleep(0.2)
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    assert "Insufficient cpu" in await system_log(client, job)


async def test_a_job_that_takes_too_much_memory_is_told_so(client: Client) -> None:
    """W06: whether the kernel killed the job alone or the agent with it."""
    job = await client.submit(
        ["sh", "-c", "tail /dev/zero"], resources=wire.Resources(memory_bytes=64 << 20), retry=NEVER_AGAIN
    )
    assert (await client.wait(job)).cause == wire.CAUSE_OUT_OF_MEMORY


async def test_a_pod_that_somebody_deletes_is_a_worker_that_is_lost(client: Client, api: Any, namespace: str) -> None:
    """W08, W09: told by the watch, not by silence alone; tried again as an infrastructure's failure."""
    job = await client.submit(["sleep", "600"], retry=NEVER_AGAIN)
    name = await running_pod(api, namespace)
    await started(client, job)
    await api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", grace=1)
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_WORKER_LOST, outcome


async def test_an_evicted_pod_is_called_evicted(client: Client, api: Any, namespace: str) -> None:
    """W08: by the eviction API, as a drained node does."""
    job = await client.submit(["sleep", "600"], retry=NEVER_AGAIN)
    name = await running_pod(api, namespace)
    await started(client, job)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"gracePeriodSeconds": 1},
    }
    await api.create(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_EVICTED, outcome


async def test_a_quota_that_is_used_up_is_waited_for(make_settings: MakeSettings) -> None:
    """W04: the second job runs once the first has left its room; neither fails."""
    settings = make_settings(QUOTA="pods=1")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        jobs = [await client.submit(["sleep", "1"]) for _ in range(2)]
        async with asyncio.timeout(100):
            outcomes = [await client.wait(job) for job in jobs]
        assert [outcome.state for outcome in outcomes] == [wire.JOB_STATE_SUCCEEDED] * 2, outcomes
