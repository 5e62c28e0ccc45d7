"""What goes wrong on a real cluster, by having it go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_faults.cluster import PATIENCE, causes, nothing_left, output, path_of, pod_of, running, until
from hodei_faults.logs import until_said
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


@pytest.fixture
async def patient(make_settings: MakeSettings) -> AsyncIterator[Client]:
    """Return a client of a server that gives images that can't be pulled longer than a test takes to mend one."""
    async with (
        Server(make_settings(IMAGE_PULL_GRACE="5m"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        yield client


NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


async def test_an_image_that_cannot_be_pulled_fails_with_the_runtimes_words(once: Client) -> None:
    """W01, L17: typed, and the log says why."""
    job = await once.submit(["true"], image="registry.invalid/none:1", retry=NEVER_AGAIN)
    async with asyncio.timeout(PATIENCE):
        outcome = await once.wait(job)
    assert outcome.cause == wire.CAUSE_IMAGE, outcome
    assert "registry.invalid/none:1" in await output(once, job)


async def test_an_image_without_a_name_fails_at_once(patient: Client) -> None:
    """W01: what can't heal is not waited for."""
    job = await patient.submit(["true"], image="Not/A:Valid:Name", retry=NEVER_AGAIN)
    async with asyncio.timeout(PATIENCE):
        outcome = await patient.wait(job)
    assert outcome.cause == wire.CAUSE_IMAGE, outcome
    assert "InvalidImageName" in await output(patient, job)


async def test_an_image_that_heals_in_time_costs_the_job_nothing(patient: Client, api: Any, namespace: str) -> None:
    """W01, W03: what can't be pulled is waited for; then the same attempt runs, and the log says what it was."""
    client = patient
    job = await client.submit(["echo", "hello"], image="registry.invalid/none:1", retry=NEVER_AGAIN)

    async def cannot_be_pulled() -> Any:
        pod = await pod_of(api, namespace, job)
        states = [each["state"].get("waiting", {}) for each in pod["status"].get("containerStatuses", [])]
        return pod if {state.get("reason") for state in states} & {"ErrImagePull", "ImagePullBackOff"} else None

    pod = await until(cannot_be_pulled)
    containers = [each | {"image": "busybox:stable"} for each in pod["spec"]["containers"]]
    await api.merge(path_of(pod), {"spec": {"containers": containers}})
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert len((await client.get(job)).attempts) == 1
    assert "registry.invalid/none:1" in await output(client, job)


async def test_a_job_that_fits_no_node_says_so_in_the_schedulers_words(
    client: Client, api: Any, namespace: str
) -> None:
    """W02, W16: in explain and in the log; cancelling it while it waits takes its pod away."""
    job = await client.submit(["true"], resources=wire.Resources(cpu_millis=1_000_000 // 20))
    async with asyncio.timeout(PATIENCE):
        while "Insufficient cpu" not in " ".join((await client.explain(job)).diagnosis):
            await asyncio.sleep(0.2)
    await until_said(client, job, "Insufficient cpu")
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    await nothing_left(api, namespace)


async def test_a_job_that_takes_too_much_memory_is_told_so(client: Client) -> None:
    """W06: whether the kernel killed the job alone or the agent with it."""
    job = await client.submit(
        ["sh", "-c", "tail /dev/zero"], resources=wire.Resources(memory_bytes=64 << 20), retry=NEVER_AGAIN
    )
    assert (await client.wait(job)).cause == wire.CAUSE_OUT_OF_MEMORY


async def test_a_child_that_takes_too_much_memory_is_told_too(client: Client) -> None:
    """W06: its parent lives on and may say what it likes; where the kernel takes the whole pod, its status tells."""
    job = await client.submit(
        ["sh", "-c", "tail /dev/zero; exit 5"], resources=wire.Resources(memory_bytes=64 << 20), retry=NEVER_AGAIN
    )
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_OUT_OF_MEMORY, outcome
    assert outcome.exit_code in {0, 5}


async def test_an_evicted_pod_is_called_evicted(client: Client, api: Any, namespace: str) -> None:
    """W08: by the eviction API, as a drained node does."""
    job = await client.submit(["sleep", "600"], retry=NEVER_AGAIN)
    pod = await pod_of(api, namespace, job)
    await running(client, job)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod["metadata"]["name"], "namespace": namespace},
        "deleteOptions": {"gracePeriodSeconds": 1},
    }
    await api.create(f"{path_of(pod)}/eviction", eviction)
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_EVICTED, outcome


async def test_an_evicted_job_is_asked_to_end_and_its_last_words_are_in_its_log(
    client: Client, api: Any, namespace: str
) -> None:
    """W08, W26: at once, while its pod has all of its time; it saves what it has, and another attempt follows."""
    script = "trap 'echo saved; exit 0' TERM; [ $HODEI_ATTEMPT -gt 1 ] || while echo up; do sleep 0.1; done"
    job = await client.submit(["sh", "-c", script], cancel_grace=600)
    pod = await pod_of(api, namespace, job)
    metadata = {"name": pod["metadata"]["name"], "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    said = b""
    async with asyncio.timeout(PATIENCE):
        async for event in client.logs(job):
            if isinstance(event, Chunk) and event.stream == STDOUT:
                if not said:
                    await api.create(f"{path_of(pod)}/eviction", eviction)
                said += event.data
        outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
    assert await causes(client, job) == [wire.CAUSE_EVICTED, wire.CAUSE_EXIT_CODE]
    assert said.splitlines() == [b"up"] * said.count(b"up") + [b"saved"]
    assert (await client.receipt(job, attempt=1)).complete


async def test_a_quota_that_is_used_up_is_waited_for(make_settings: MakeSettings) -> None:
    """W04: for longer than failures are; the second job runs once the first has left its room; `explain` says why."""
    async with (
        Server(make_settings(QUOTA="pods=1"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        first = await client.submit(["sleep", "600"])
        await running(client, first)
        spec = wire.JobSpec(argv=["true"])
        spec.retry.initial_backoff.FromMilliseconds(20)
        second = await client.submit(spec)

        async def refused_often() -> bool:
            return len((await client.get(second)).attempts) > 6

        await until(refused_often)
        assert "exceeded quota" in " ".join(event.reason for event in (await client.explain(second)).events)
        await client.cancel(first)
        assert (await client.wait(second)).state == wire.JOB_STATE_SUCCEEDED
        found = [attempt.outcome.cause for attempt in (await client.get(second)).attempts]
        assert found == [wire.CAUSE_QUOTA] * (len(found) - 1) + [wire.CAUSE_EXIT_CODE]
