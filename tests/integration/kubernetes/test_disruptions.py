"""Pods that are taken away: by somebody's hand, by a pod of more weight, by their own deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, SYSTEM, Client, ClientSettings, LogPlace
from hodei_faults.cluster import (
    LONG_AT_FIRST,
    PATIENCE,
    causes,
    nothing_left,
    output,
    path_of,
    pod_of,
    remove,
    running,
    until,
)
from hodei_faults.logs import read
from hodei_providers.contract import ExitReason, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request
from hodei_providers.testing import until as until_phase
from hodei_server.app import Server

NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


async def test_a_job_whose_pod_somebody_deletes_runs_again_and_nothing_is_left(
    client: Client, api: Any, namespace: str
) -> None:
    """W08, W09: as the infrastructure's failure, which costs the job none of its own attempts; it is told so."""
    job = await client.submit(LONG_AT_FIRST)
    pod = await pod_of(api, namespace, job)
    await running(client, job)
    await api.delete(path_of(pod))
    outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
    assert await causes(client, job) == [wire.CAUSE_EVICTED, wire.CAUSE_EXIT_CODE]
    assert "is being deleted" in (await client.get(job)).attempts[0].outcome.message
    assert await output(client, job, STDOUT) == "attempt 2\n"
    await nothing_left(api, namespace)


async def test_a_pod_that_is_deleted_before_it_starts_is_noticed(client: Client, api: Any, namespace: str) -> None:
    """W09: no worker was ever heard of, so no silence tells; the watch does, and another attempt begins."""
    job = await client.submit(["true"], resources=wire.Resources(cpu_millis=50_000))
    pod = await pod_of(api, namespace, job)
    await api.delete(path_of(pod), grace=0)

    async def another() -> bool:
        return len((await client.get(job)).attempts) == 2

    await until(another)
    assert (await causes(client, job))[0] == wire.CAUSE_WORKER_LOST
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    await nothing_left(api, namespace)


FILLS = """\
trap 'echo asked; exit 0' TERM
echo fills
head -c 64m /dev/zero > /tmp/full
while :; do sleep 0.2; done
"""


async def test_a_job_that_fills_more_disk_than_it_has_is_evicted_and_told_what_it_has_filled(client: Client) -> None:
    """W08: by its kubelet, in that one's own words; it is asked to end, and its log is whole.

    Unless it was killed before it could say so: a kubelet that evicts for this leaves a pod one second.
    """
    job = await client.submit(["sh", "-c", FILLS], resources=wire.Resources(disk_bytes=16 << 20), retry=NEVER_AGAIN)
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_EVICTED, outcome
    assert 'EmptyDir volume "hodei-tmp" exceeds the limit "16Mi"' in outcome.message
    assert await output(client, job, STDOUT) in {"fills\n", "fills\nasked\n"}
    killed = outcome.message.startswith("The worker is gone: ")
    assert (await client.receipt(job)).complete is not killed, outcome


async def test_a_job_whose_pod_goes_while_its_server_is_away_runs_again_and_its_log_has_the_events(
    make_settings: Callable[..., Any], api: Any, namespace: str
) -> None:
    """W08, W11, L17: the server that comes after never saw the pod; what the cluster still knows of it is told."""
    # Its worker stays for so long without a server: a node may be slow to hear that the pod is to go.
    settings = make_settings(orphan_after="8s", TERMINATION_GRACE="1")
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(LONG_AT_FIRST)
        await running(client, job)
        pod = await pod_of(api, namespace, job)
    await api.delete(path_of(pod))
    await nothing_left(api, namespace)

    async def is_noted() -> bool:
        # An event comes by a way of its own, and may come after the end of what it tells of.
        events = (await api.get(f"/api/v1/namespaces/{namespace}/events"))["items"]
        return any(each["reason"] == "Killing" for each in events)

    await until(is_noted)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await causes(client, job) == [wire.CAUSE_WORKER_LOST, wire.CAUSE_EXIT_CODE]
        said = (await read(client, job, SYSTEM, place=LogPlace(attempt=1))).decode()
        assert "there is no pod of it" in said
        assert "event Killing: " in said


RESOURCE = "example.com/hodei-test"


@pytest.fixture
async def device(api: Any) -> AsyncIterator[str]:
    """Return the name of a node that says to have one device of a kind which no other has."""
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]["name"]
    status = f"/api/v1/nodes/{node}/status"
    await api.merge(status, {"status": {"capacity": {RESOURCE: "1"}, "allocatable": {RESOURCE: "1"}}})
    yield node
    await api.merge(status, {"status": {"capacity": {RESOURCE: None}, "allocatable": {RESOURCE: None}}})


@pytest.fixture
async def heavier(api: Any, namespace: str) -> AsyncIterator[str]:
    """Return the name of a priority class of more weight than a worker's."""
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    await api.create(classes, {**kind, "metadata": {"name": namespace}, "value": 1000})
    yield namespace
    await remove(api, f"{classes}/{namespace}")


async def test_a_pod_that_makes_room_for_one_of_more_weight_is_told_as_evicted(
    make_settings: Callable[..., Any], api: Any, namespace: str, device: str, heavier: str
) -> None:
    """W08, W37: the job has the only device; who is preferred takes it from its pod, and says so."""
    settings = make_settings(GPU_RESOURCES=f"default={RESOURCE}", TERMINATION_GRACE="1")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["sleep", "600"], resources=wire.Resources(gpu_count=1), retry=NEVER_AGAIN)
        await running(client, job)
        pod = await pod_of(api, namespace, job)
        assert pod["spec"]["nodeName"] == device
        assert pod["spec"]["containers"][0]["resources"]["limits"][RESOURCE] == "1"
        container = {
            "name": "a",
            "image": "busybox:stable",
            "imagePullPolicy": "IfNotPresent",
            "command": ["true"],
            "resources": {"limits": {RESOURCE: "1", "cpu": "10m", "memory": "16Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        await api.create(
            f"/api/v1/namespaces/{namespace}/pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "heavier"},
                "spec": {
                    "priorityClassName": heavier,
                    "restartPolicy": "Never",
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                },
            },
        )
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_EVICTED, outcome
        assert "reempt" in outcome.message, outcome


async def test_a_worker_that_is_evicted_before_it_connects_is_told_as_evicted(
    api: Any, played: KubernetesConfig
) -> None:
    """W08: it can't say so itself; the cluster does, and the watch has it."""
    async with KubernetesProvider(config=played) as provider:
        # Before there is anything to see: a pod that is gone when the watch begins is told by nobody.
        watching = asyncio.ensure_future(anext(provider.watch(INSTALLATION)))
        handle = await provider.launch(make_request())
        await until_phase(provider, handle, WorkerPhase.RUNNING)
        metadata = {"name": handle.data["pod"], "namespace": played.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        await api.create(f"/api/v1/namespaces/{played.namespace}/pods/{handle.data['pod']}/eviction", eviction)
        async with asyncio.timeout(PATIENCE):
            assert (await watching).reason is ExitReason.EVICTED
        await destroyed(provider, handle)


async def test_a_pod_that_outlives_its_deadline_is_told_so(played: KubernetesConfig) -> None:
    """W08: what a kubelet ends for its `activeDeadlineSeconds` has run for too long; a worker in order ends before."""
    async with KubernetesProvider(config=played) as provider:
        handle = await provider.launch(make_request(deadline=2.0))
        async with asyncio.timeout(PATIENCE):
            description = await anext(provider.watch(INSTALLATION))
        assert (description.handle, description.reason) == (handle, ExitReason.DEADLINE)
        assert "DeadlineExceeded" in description.message
        await destroyed(provider, handle)
