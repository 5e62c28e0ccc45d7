"""Several providers of Kubernetes: of two clusters, for which two contexts of one stand in, and of one namespace."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import nothing_left, output, pod_of, running
from hodei_providers.registry import ProviderSetupError
from hodei_server.app import Server


@pytest.fixture
async def spaces(
    api: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mapping[str, str]]:
    """Have a configuration file with two clusters; return the namespace of each."""
    admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
    (current,) = [each for each in admin["contexts"] if each["name"] == admin["current-context"]]
    found = {name: f"{namespace}-{name}" for name in ("east", "west")}
    contexts = [{"name": name, "context": current["context"]} for name in found]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(admin | {"contexts": contexts, "current-context": "nowhere"}))
    tables = [
        f'[providers.{name}]\nkind = "kubernetes"\nkubeconfig = "{kubeconfig}"\ncontext = "{name}"\n'
        f'namespace = "{space}"\npod_labels = {{ cluster = "{name}" }}\n'
        for name, space in found.items()
    ]
    (tmp_path / "hodei.toml").write_text("\n".join(tables))
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(tmp_path / "hodei.toml"))
    yield found
    for space in found.values():
        await api.delete(f"/api/v1/namespaces/{space}")


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
    api: Any,
    spaces: Mapping[str, str],
    orders: Any,
    *,
    state: provider_pb2.ProviderState.ValueType,
    word: str,
) -> None:
    """W36, W42: by the file's names and contexts; neither takes the other's pods for its own or for strays."""
    settings = make_settings(providers="east,west", stray_grace="1s")
    monkeypatch.delenv("HODEI_KUBERNETES_ENABLED")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        jobs, pods = {}, {}
        for name, space in spaces.items():
            script = f"wget -qO /dev/null http://{orders.host}:{orders.port}/{name}; echo {name}"
            jobs[name] = await client.submit(["sh", "-c", script], image="busybox:stable", providers=[name])
            await running(client, jobs[name])
            pods[name] = await pod_of(api, space, jobs[name])
            assert pods[name]["metadata"]["labels"]["cluster"] == name
        assert {each.name for each in await client.providers() if each.healthy} == set(spaces)

        await client.set_provider_state("east", state)
        elsewhere = await client.submit(["true"], providers=["east", "west"])
        waits = await client.submit(["true"], providers=["east"])
        assert (await client.wait(elsewhere)).state == wire.JOB_STATE_SUCCEEDED
        assert (await client.get(elsewhere)).attempts[0].provider == "west"
        verdicts = {each.provider: each.reason for each in (await client.explain(waits)).providers}
        assert verdicts["east"].startswith(word)
        for name, space in spaces.items():
            assert (await client.get(jobs[name])).state == wire.JOB_STATE_RUNNING
            assert (await pod_of(api, space, jobs[name]))["metadata"]["uid"] == pods[name]["metadata"]["uid"]
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
    for space in spaces.values():
        await nothing_left(api, space)


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
