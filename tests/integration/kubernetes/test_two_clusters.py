"""Several providers of Kubernetes: of two clusters, and of one namespace.

HODEI_TEST_SECOND_KUBECONFIG leads to a second cluster, HODEI_TEST_SECOND_SERVER_ADDRESS says where its pods reach this
machine, if that is not the address that faces its API. Else two contexts of one cluster stand in for two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import nothing_left, output, pod_of, remove, running, until
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.api import Api
from hodei_providers.registry import ProviderSetupError
from hodei_server.app import Server


class Cluster(NamedTuple):
    """One of the two, and the namespace that its provider has there."""

    api: Any
    namespace: str


@pytest.fixture
async def clusters(
    api: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mapping[str, Cluster]]:
    """Have a configuration file with two clusters, east and west."""
    admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
    (current,) = [each for each in admin["contexts"] if each["name"] == admin["current-context"]]
    contexts = [{"name": name, "context": current["context"]} for name in ("east", "west")]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(admin | {"contexts": contexts, "current-context": "nowhere"}))
    ways = {name: {"kubeconfig": str(kubeconfig), "context": name} for name in ("east", "west")}
    if second := os.environ.get("HODEI_TEST_SECOND_KUBECONFIG"):
        address = os.environ.get("HODEI_TEST_SECOND_SERVER_ADDRESS", "")
        ways["west"] = {"kubeconfig": second, "server_address": address}
    tables = []
    for name, way in ways.items():
        options = way | {"kind": "kubernetes", "namespace": f"{namespace}-{name}"}
        lines = [f"{option} = {json.dumps(value)}" for option, value in options.items()]
        tables += [f"[providers.{name}]", *lines, f'pod_labels = {{ cluster = "{name}" }}']
    (tmp_path / "hodei.toml").write_text("\n".join(tables))
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(tmp_path / "hodei.toml"))
    async with contextlib.AsyncExitStack() as stack:
        west = await stack.enter_async_context(Api(KubernetesConfig(kubeconfig=second))) if second else api
        found = {name: Cluster(each, f"{namespace}-{name}") for name, each in (("east", api), ("west", west))}
        yield found
        for cluster in found.values():
            await remove(cluster.api, f"/api/v1/namespaces/{cluster.namespace}")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (provider_pb2.PROVIDER_STATE_DRAINING, "it is draining"),
        (provider_pb2.PROVIDER_STATE_DISABLED, "it is disabled"),
    ],
)
async def test_jobs_go_to_the_cluster_that_they_name_and_one_that_is_closed_keeps_what_runs_there(
    make_settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    clusters: Mapping[str, Cluster],
    orders: Any,
    *,
    state: provider_pb2.ProviderState.ValueType,
    word: str,
) -> None:
    """W36, W42: by the file's names and contexts; neither takes the other's pods for its own or for strays."""
    egress = [{"to": [{"ipBlock": {"cidr": f"{orders.host}/32"}}]}]
    settings = make_settings(providers="east,west", stray_grace="1s", NETWORK_EGRESS=json.dumps(egress))
    monkeypatch.delenv("HODEI_KUBERNETES_ENABLED")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        jobs, pods = {}, {}
        for name, cluster in clusters.items():
            script = f"wget -qO /dev/null http://{orders.host}:{orders.port}/{name}; echo {name}"
            jobs[name] = await client.submit(["sh", "-c", script], image="busybox:stable", providers=[name])
            await running(client, jobs[name])
            pods[name] = await pod_of(*cluster, jobs[name])
            assert pods[name]["metadata"]["labels"]["cluster"] == name

        async def all_well() -> bool:
            return {each.name for each in await client.providers() if each.healthy} == set(clusters)

        await until(all_well)

        await client.set_provider_state("east", state)
        elsewhere = await client.submit(["true"], providers=["east", "west"])
        waits = await client.submit(["true"], providers=["east"])
        assert (await client.wait(elsewhere)).state == wire.JOB_STATE_SUCCEEDED
        assert (await client.get(elsewhere)).attempts[0].provider == "west"
        verdicts = {each.provider: each.reason for each in (await client.explain(waits)).providers}
        assert verdicts["east"].startswith(word)
        for name, cluster in clusters.items():
            assert (await client.get(jobs[name])).state == wire.JOB_STATE_RUNNING
            assert (await pod_of(*cluster, jobs[name]))["metadata"]["uid"] == pods[name]["metadata"]["uid"]
            orders.code(name).set_result(0)
        outcomes = await asyncio.gather(*(client.wait(job) for job in jobs.values()))
        assert [outcome.state for outcome in outcomes] == [wire.JOB_STATE_SUCCEEDED] * 2, outcomes
        for name, job in jobs.items():
            (attempt,) = (await client.get(job)).attempts
            assert (attempt.provider, await output(client, job, STDOUT)) == (name, f"{name}\n")
        assert not (await client.get(waits)).attempts
        await client.set_provider_state("east", provider_pb2.PROVIDER_STATE_ENABLED)
        assert (await client.wait(waits)).state == wire.JOB_STATE_SUCCEEDED
        assert [each.provider for each in (await client.get(waits)).attempts] == ["east"]
    for cluster in clusters.values():
        await nothing_left(*cluster)


async def test_a_namespace_that_two_providers_share_is_made_one_way_or_the_server_does_not_start(
    make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, api: Any, namespace: str, tmp_path: Path
) -> None:
    """W42: told by the file's keys, and nothing of it is made; with the same settings each runs its own pods there."""
    monkeypatch.delenv("HODEI_KUBERNETES_ENABLED")
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(tmp_path / "hodei.toml"))

    def settings(**pods: int) -> Any:
        tables = [
            f'[providers.{name}]\nkind = "kubernetes"\n'
            f'quota = {{ pods = {most} }}\npod_labels = {{ pool = "{name}" }}\n'
            for name, most in pods.items()
        ]
        (tmp_path / "hodei.toml").write_text("\n".join(tables))
        return make_settings(providers="east,west")

    async def quota() -> Mapping[str, str]:
        path = f"/api/v1/namespaces/{namespace}/resourcequotas/hodei-jobs-workers-quota"
        hard: Mapping[str, str] = (await api.get(path))["spec"]["hard"]
        return hard

    with pytest.raises(
        ProviderSetupError, match=re.escape('providers.west.quota is {"pods": "10"} for east, {"pods":')
    ):
        await Server(settings(east=10, west=20)).__aenter__()
    assert await quota() == {"pods": "10"}
    async with (
        Server(settings(east=10, west=10), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        for name in ("east", "west"):
            job = await client.submit(["true"], providers=[name])
            assert (await pod_of(api, namespace, job))["metadata"]["labels"]["pool"] == name
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await quota() == {"pods": "10"}
    await nothing_left(api, namespace)
