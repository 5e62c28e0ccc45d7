"""Servers that are killed while their pods are launched and while they run."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.logs import read
from hodei_faults.ports import fixed_ports
from hodei_faults.servers import ServerProcess
from hodei_providers.faults import VARIABLE as FAULT_POINT
from hodei_server.app import Server

MakeSettings = Callable[..., Any]
#: Pods of one server at once; all of them fit on a small node.
MANY = 12


async def items(api: Any, namespace: str, kind: str) -> list[Any]:
    """Return what there is of a kind that is Hodei's."""
    answer = await api.get(f"/api/v1/namespaces/{namespace}/{kind}", labelSelector="hodei.io/worker-id")
    return list(answer["items"])


async def until_nothing_is_left(api: Any, namespace: str) -> None:
    """Wait for the pods and the secrets of all workers to be gone."""
    async with asyncio.timeout(PATIENCE):
        while await items(api, namespace, "pods") or await items(api, namespace, "secrets"):
            await asyncio.sleep(0.2)


@pytest.fixture
async def process(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, Client]]:
    """Return a server that is not started yet, and a client of it; what is left of its workers is removed."""
    settings = make_settings(**fixed_ports(), log_level="info")
    async with Server(settings, ephemeral=True) as first:
        address = first.address
    process = ServerProcess(settings, tmp_path / "server.log", "HODEI_K8S_", "HODEI_KUBERNETES_")
    async with Client(settings=ClientSettings(address)) as client:
        yield process, client
    await process.stop()
    async with Server(settings, ephemeral=True):
        pass


#: Where the server dies, and how many pods and secrets it leaves behind.
POINTS = {
    "kubernetes.secret_made": (0, 1),
    "kubernetes.pod_made": (1, 1),
    "kubernetes.owner_set": (1, 1),
    "kubernetes.pod_taken_back": (0, 1),
    "worker.launched": (1, 1),
    "worker.registered": (1, 1),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_server_that_dies_while_it_launches_a_pod_leaves_nothing_undone(
    process: tuple[ServerProcess, Client], api: Any, namespace: str, point: str
) -> None:
    """W11, W13, W14, W43: the next server takes up what it finds: one pod, one attempt, one line; nothing is left."""
    server, client = process
    await server.start(**{FAULT_POINT: point})
    # One of root is refused its user: its pod is made again.
    job = await client.submit(["echo", "hello"], image="busybox:stable" if "taken_back" in point else "")
    assert await server.died() == -signal.SIGKILL
    assert (len(await items(api, namespace, "pods")), len(await items(api, namespace, "secrets"))) == POINTS[point]
    before = {pod["metadata"]["uid"] for pod in await items(api, namespace, "pods")}
    await server.start()
    async with asyncio.timeout(PATIENCE):
        outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
    assert len((await client.get(job)).attempts) == 1
    assert await read(client, job) == b"hello\n"
    after = {pod["metadata"]["uid"] for pod in await items(api, namespace, "pods")}
    assert not before or after <= before, "another pod was made"
    await until_nothing_is_left(api, namespace)


async def test_a_job_that_is_cancelled_while_its_server_is_dead_leaves_no_secret(
    process: tuple[ServerProcess, Client], api: Any, namespace: str
) -> None:
    """W16, W43: a secret whose pod was never made is owned by nobody, and goes with its worker."""
    server, client = process
    await server.start(**{FAULT_POINT: "kubernetes.secret_made"})
    job = await client.submit(wire.JobSpec(argv=["true"], resources=wire.Resources(cpu_millis=50_000)))
    assert await server.died() == -signal.SIGKILL
    assert len(await items(api, namespace, "secrets")) == 1
    await server.start()
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    await until_nothing_is_left(api, namespace)


async def test_a_server_that_is_killed_finds_all_of_its_pods_again(
    process: tuple[ServerProcess, Client], api: Any, namespace: str
) -> None:
    """W11, W14, W26: many of them, killed without a word; each job runs once and has its whole log."""
    server, client = process
    await server.start()
    script = "echo $HODEI_JOB_ID; for n in $(seq 1 100); do echo $n; sleep 0.2; done"
    jobs = [await client.submit(["sh", "-c", script]) for _ in range(MANY)]
    async with asyncio.timeout(PATIENCE):
        while True:
            states = collections.Counter([(await client.get(job)).state for job in jobs])
            # On a machine that is slow to start pods the first may have ended when the last one runs.
            if states[wire.JOB_STATE_RUNNING] + states[wire.JOB_STATE_SUCCEEDED] == MANY:
                break
            await asyncio.sleep(0.2)
    before = {pod["metadata"]["uid"] for pod in await items(api, namespace, "pods")}
    await server.kill()
    await server.start()
    for job in jobs:
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert len((await client.get(job)).attempts) == 1
        assert await read(client, job) == b"%b\n" % job.encode() + b"".join(b"%d\n" % n for n in range(1, 101))
        assert (await client.receipt(job)).complete
        assert {pod["metadata"]["uid"] for pod in await items(api, namespace, "pods")} <= before
    await until_nothing_is_left(api, namespace)


async def test_a_pod_that_nobody_knows_is_removed_and_a_neighbours_is_not(
    make_settings: MakeSettings, api: Any, namespace: str, tmp_path: Path
) -> None:
    """W11, W12: of a database that is gone; another installation's in the same namespace stays."""
    from hodei_providers.kubernetes import KubernetesConfig  # noqa: PLC0415 - beside the provider
    from hodei_providers.kubernetes.provider import KubernetesProvider  # noqa: PLC0415 - needs the SDK
    from hodei_providers.testing import destroyed, make_request  # noqa: PLC0415 - beside the provider

    settings = make_settings(stray_grace="1s")
    async with Server(settings, ephemeral=True):
        installation = (tmp_path / "data" / "installation").read_text().strip()
        address = os.environ.get("HODEI_K8S_SERVER_ADDRESS", "")
        config = KubernetesConfig(
            namespace=namespace, server_address=address, default_cpu_request="10m", default_memory_request="16Mi"
        )
        async with KubernetesProvider(config=config) as provider:
            stray = await provider.launch(make_request(installation))
            neighbour = await provider.launch(make_request("another"))
            async with asyncio.timeout(PATIENCE):
                while await provider.list(installation):
                    await asyncio.sleep(0.2)
            assert [each.worker_id for each in await provider.list("another")] == [neighbour.worker_id]
            assert stray.worker_id not in {
                pod["metadata"]["labels"]["hodei.io/worker-id"] for pod in await items(api, namespace, "pods")
            }
            await destroyed(provider, neighbour)
