"""What a real cluster has left, and what it tells of itself."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import os
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import causes, running, until
from hodei_providers.contract import Health
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_server.app import Server

MakeSettings = Callable[..., Any]
#: A pod of somebody else's.
OTHER: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "other"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "other",
                "image": "busybox:stable",
                "command": ["sleep", "600"],
                "resources": {"requests": {"memory": "77Mi", "cpu": "1m"}, "limits": {"memory": "77Mi", "cpu": "1"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


async def scrape(server: Server) -> str:
    """Return what Prometheus gets."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    return await asyncio.to_thread(read)


async def figures(server: Server) -> Mapping[tuple[str, ...], float]:
    """Return what the provider tells of itself, by name and the labels' values, its own name left out."""
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "provider")): sample.value
        for family in text_string_to_metric_families(await scrape(server))
        for sample in family.samples
        if sample.name.startswith("hodei_kubernetes_")
    }


@pytest.fixture
async def watched(make_settings: MakeSettings) -> AsyncIterator[Server]:
    """Return a server whose figures can be read, and that gives an image no time."""
    settings = make_settings(metrics_listen="127.0.0.1:0", IMAGE_PULL_GRACE="0s", RESYNC="3s")
    async with Server(settings, ephemeral=True) as running:
        yield running


async def test_a_cluster_tells_of_pods_calls_and_nodes(watched: Server, api: Any) -> None:
    """Each family moves when what it counts happens, and Prometheus' own check finds nothing."""
    async with Client(settings=ClientSettings(watched.address)) as client:
        job = await client.submit(["sleep", "600"])
        await running(client, job)

        async def is_told() -> bool:
            told = await figures(watched)
            return (
                told[("hodei_kubernetes_pods", "running")] == 1 == told[("hodei_kubernetes_pod_start_seconds_count",)]
            )

        await until(is_told)
        await client.cancel(job)
        await client.wait(job)
        broken = await client.submit(["true"], image="hodei-test.invalid/no/such:image")
        assert (await client.wait(broken)).cause == wire.CAUSE_IMAGE

        async def is_over() -> bool:
            told = await figures(watched)
            return not any(told[("hodei_kubernetes_pods", phase)] for phase in ("pending", "running"))

        await until(is_over)
    told = await figures(watched)
    assert told[("hodei_kubernetes_pod_failures_total", "image")] == 1
    # The server's own doing was none.
    assert told[("hodei_kubernetes_pod_failures_total", "deleted")] == 0
    assert told[("hodei_kubernetes_api_calls_total", "201", "post")] >= 4
    measured = "metrics.k8s.io" in [each["name"] for each in (await api.get("/apis"))["groups"]]

    async def is_seen() -> bool:
        # A node of a busy machine may not be ready for a moment, and who measures it for the cluster may be late.
        seen = collections.defaultdict(float, await figures(watched))
        allocatable, asked = (seen[("hodei_kubernetes_node_cpu_cores", each)] for each in ("allocatable", "asked"))
        used = seen[("hodei_kubernetes_node_memory_bytes", "used")]
        return seen[("hodei_kubernetes_nodes", "yes")] >= 1 and allocatable > asked > 0 and (used > 1 << 20) == measured

    await until(is_seen)
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "promtool is missing: apt install prometheus"
        return
    text = (await scrape(watched)).encode()
    check = [promtool, "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, check, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_what_others_ask_is_taken_off_and_the_quota_counts_where_it_is_smaller(
    api: Any, namespace: str, played: KubernetesConfig
) -> None:
    """Free is what nodes have, without what pods there ask, whoever's they are."""
    quota = {"pods": "10", "requests.cpu": "300m"}
    pods = f"/api/v1/namespaces/{namespace}/pods"

    async def is_placed() -> bool:
        return "nodeName" in (await api.get(f"{pods}/other"))["spec"]

    async with KubernetesProvider(config=played) as provider:

        async def is_told() -> Health | None:
            # A node of a busy machine may not be ready for a moment.
            await provider._survey.look()
            health = await provider.health()
            return health if health.total is not None and "nodes take workers" in health.details else None

        async def free() -> int:
            health = await until(is_told)
            assert health.elastic
            memory: int = health.total.memory_bytes
            return memory

        async def is_taken_off() -> bool:
            # Others come and go on the same cluster, but not always between two looks.
            with_it = await free()
            await api.delete(f"{pods}/other", grace=0)
            without = await free()
            await api.create(pods, OTHER)
            await until(is_placed)
            return without - with_it == 77 << 20

        await api.create(pods, OTHER)
        await until(is_placed)
        await until(is_taken_off)
    async with KubernetesProvider(config=dataclasses.replace(played, quota=quota, fixed_size=True)) as provider:

        async def is_bounded() -> bool:
            await provider._survey.look()
            health = await provider.health()
            return health.total is not None and (health.total.cpu_millis, health.elastic) == (299, False)

        await until(is_bounded)


async def test_what_may_not_be_seen_is_said_and_bounds_nothing(
    account: Callable[[str], Awaitable[str]], played: KubernetesConfig
) -> None:
    """Neither nodes, nor pods, nor what is in use; the cluster's words name the right."""
    async with KubernetesProvider(config=dataclasses.replace(played, kubeconfig=await account("nobody"))) as provider:
        await provider._survey.look()
    cluster = provider._survey.cluster
    assert cluster.total is None
    assert 'cannot list resource "nodes"' in cluster.words()


async def test_on_a_cluster_of_fixed_size_a_job_waits_in_the_queue_until_there_is_room(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """W15: not as a pod whose start timeout runs; `explain` says what is left."""
    settings = make_settings(FIXED_SIZE="true", QUOTA="pods=10,requests.cpu=300m", RESYNC="1s")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        resources = wire.Resources(cpu_millis=200)
        first = await client.submit(["sleep", "600"], resources=resources)
        await running(client, first)
        second = await client.submit(["true"], resources=resources)

        async def is_explained() -> bool:
            return "resources.cpu_millis: 100 are left" in str(await client.explain(second))

        await until(is_explained)
        pods = (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
        assert [pod["metadata"]["labels"]["hodei.io/job"] for pod in pods] == [first]
        await client.cancel(first)
        assert (await client.wait(second)).state == wire.JOB_STATE_SUCCEEDED
        # A quota's room is given back a moment after its pod has gone: until then the cluster may refuse another.
        *refused, cause = await causes(client, second)
        assert (set(refused) <= {wire.CAUSE_QUOTA}, cause) == (True, wire.CAUSE_EXIT_CODE)
