"""The example for production that docs/kubernetes.md has, on a real cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import output, pod_of, until
from hodei_faults.production import production_variables
from hodei_providers.config import given_options, read_config
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.errors import AlreadyThereError
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import make_request
from hodei_server.app import Server

EXAMPLE = production_variables()
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


@pytest.fixture
async def weight(api: Any) -> AsyncIterator[int]:
    """Return what the example's priority class weighs; the cluster has it meanwhile."""
    name = EXAMPLE["HODEI_K8S_PRIORITY_CLASS"]
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    try:
        await api.create(CLASSES, {**kind, "metadata": {"name": name}, "value": 7})
    except AlreadyThereError:
        yield int((await api.get(f"{CLASSES}/{name}"))["value"])  # the cluster's own
        return
    yield 7
    await api.delete(f"{CLASSES}/{name}")


@pytest.fixture
async def pool_of_nodes(api: Any) -> AsyncIterator[None]:
    """Have a node with the labels that the example selects."""
    label, _, value = EXAMPLE["HODEI_K8S_NODE_SELECTOR"].partition("=")
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]
    path = f"/api/v1/nodes/{node['name']}"
    await api.merge(path, {"metadata": {"labels": {label: value}}})
    yield
    await api.merge(path, {"metadata": {"labels": {label: node["labels"].get(label)}}})


async def test_a_cluster_takes_what_the_example_for_production_makes_as_it_stands(
    api: Any, namespace: str, weight: int
) -> None:
    """W37: the namespace with all that belongs in it, and a pod, but for the name of the namespace."""
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    environment = EXAMPLE | {"HODEI_K8S_NAMESPACE": namespace, "HODEI_K8S_KUBECONFIG": kubeconfig}
    shared = {"worker_image": EXAMPLE["HODEI_WORKER_IMAGE"]}
    config = read_config(
        KubernetesConfig, given_options(KubernetesConfig, environment=environment, own={}, shared=shared)
    )
    async with KubernetesProvider(config=config) as provider:
        health = await provider.health()
        assert (health.healthy, health.degraded) == (True, False), health
        space = f"/api/v1/namespaces/{namespace}"
        labels = (await api.get(space))["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == EXAMPLE["HODEI_K8S_POD_SECURITY_STANDARD"]
        await api.get(f"{space}/serviceaccounts/{EXAMPLE['HODEI_K8S_SERVICE_ACCOUNT']}")
        quota = await api.get(f"{space}/resourcequotas/hodei-jobs-workers-quota")
        assert quota["spec"]["hard"] == config.quota
        policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        policy = await api.get(f"{policies}/hodei-jobs-workers-netpol")
        assert policy["spec"]["egress"][2:] == list(config.network_egress)
        asked = make_pod(make_request(), namespace, config, Owner(provider.name))
        taken = await api.create(f"{space}/pods", asked, dryRun="All")
    check(taken, config.worker_image, weight)


@pytest.mark.usefixtures("pool_of_nodes")
async def test_jobs_run_with_the_example_for_production(
    api: Any,
    namespace: str,
    weight: int,
    monkeypatch: pytest.MonkeyPatch,
    make_settings: Callable[..., Any],
) -> None:
    """All of its settings at once, but for what leads to a registry, to a server in the cluster, or is too much."""
    here = {
        "HODEI_K8S_NAMESPACE": namespace,
        "HODEI_K8S_SERVER_ADDRESS": os.environ.get("HODEI_K8S_SERVER_ADDRESS", ""),
        "HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY": "1",
    }
    settings = make_settings()
    for name, value in (EXAMPLE | here).items():
        monkeypatch.setenv(name, value)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:

        async def waiting() -> list[Any]:
            return [each async for each in client.workers() if each.warm and each.connected]

        await until(waiting)
        held = await client.submit(["sleep", "600"])
        check(await pod_of(api, namespace, held), settings.worker_image, weight)
        job = await client.submit(["echo", "hello"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await output(client, job, STDOUT) == "hello\n"
        await client.cancel(held, force=True)
        assert (await client.wait(held)).state == wire.JOB_STATE_CANCELLED


def check(pod: Mapping[str, Any], image: str, weight: int) -> None:
    """See that the API server has taken a pod as the example says."""
    spec, (worker,) = pod["spec"], pod["spec"]["containers"]
    label, _, value = EXAMPLE["HODEI_K8S_NODE_SELECTOR"].partition("=")
    assert spec["nodeSelector"] == {label: value}
    assert {"key": "pool", "operator": "Equal", "value": "jobs", "effect": "NoSchedule"} in spec["tolerations"]
    # The cluster's own admission has found the class.
    assert (spec["priorityClassName"], spec["priority"]) == (EXAMPLE["HODEI_K8S_PRIORITY_CLASS"], weight)
    assert spec["imagePullSecrets"] == [{"name": EXAMPLE["HODEI_K8S_IMAGE_PULL_SECRETS"]}]
    assert spec["serviceAccountName"] == EXAMPLE["HODEI_K8S_SERVICE_ACCOUNT"]
    assert (worker["image"], worker["imagePullPolicy"]) == (image, EXAMPLE["HODEI_K8S_IMAGE_PULL_POLICY"])
    for resource in ("CPU", "MEMORY"):
        for kind in ("REQUEST", "LIMIT"):
            written = EXAMPLE[f"HODEI_K8S_DEFAULT_{resource}_{kind}"]
            assert worker["resources"][f"{kind.lower()}s"][resource.lower()] == written
    assert pod["metadata"]["labels"]["team"] == "platform"
