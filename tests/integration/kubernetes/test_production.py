"""The example for production that docs/kubernetes.md has, on a real cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import output, pod_of, until
from hodei_faults.production import production_variables, see_as_written
from hodei_providers.config import given_options, read_config
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import make_request
from hodei_server.app import Server

EXAMPLE = production_variables()


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

        async def is_well() -> bool:
            health = await provider.health()
            return health.healthy and not health.degraded

        await until(is_well)
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
    see_as_written(taken, config.worker_image, weight)


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
        see_as_written(await pod_of(api, namespace, held), settings.worker_image, weight)
        job = await client.submit(["echo", "hello"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await output(client, job, STDOUT) == "hello\n"
        await client.cancel(held, force=True)
        assert (await client.wait(held)).state == wire.JOB_STATE_CANCELLED
