"""What a job's pod is called and given on a real cluster, and what becomes of its token."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, InvalidRequestError
from hodei_faults.cluster import PATIENCE, nothing_left, running
from hodei_providers.contract import WorkerPhase
from hodei_providers.faults import VARIABLE
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes import unowned as unowned_module
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request, until
from hodei_server.app import Server
from hodei_server.authority import WorkerAuthority

MakeSettings = Callable[..., Any]


async def pod_of(api: Any, namespace: str, **labels: str) -> Mapping[str, Any]:
    """Wait for the one running pod with some labels."""
    selector = ",".join(["hodei.io/managed=true", *(f"hodei.io/{key}={value}" for key, value in labels.items())])
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
            running: list[Mapping[str, Any]] = [
                pod for pod in answer["items"] if pod["status"].get("phase") == "Running"
            ]
            if len(running) == 1:
                return running[0]
            await asyncio.sleep(0.1)


async def secrets_of(api: Any, namespace: str) -> list[str]:
    """Return the names of a namespace's secrets."""
    return [each["metadata"]["name"] for each in (await api.get(f"/api/v1/namespaces/{namespace}/secrets"))["items"]]


async def test_a_job_names_its_pod_and_bounds_it_and_its_token_goes(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """W24, W27: its own labels and annotations, the time it has, and no secret once its worker is there."""
    async with (
        Server(make_settings(orphan_after="9m"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(
            ["sh", "-c", "id; sleep 600"],
            labels={"team": "a", "example.com/stage": "dev"},
            annotations={"example.com/note": "any\ntext"},
            start_timeout=200,
            run_timeout=3600,
            cancel_grace=40,
        )
        pod = await pod_of(api, namespace, job=job)
        metadata, spec = pod["metadata"], pod["spec"]
        assert metadata["labels"].items() >= {"team": "a", "example.com/stage": "dev"}.items()
        assert metadata["annotations"]["example.com/note"] == "any\ntext"
        assert metadata["annotations"]["hodei.io/provider-id"] == "kubernetes"
        assert spec["activeDeadlineSeconds"] == 200 + 3600 + 40 + 540
        assert spec["terminationGracePeriodSeconds"] == 50
        async with asyncio.timeout(PATIENCE):
            while await secrets_of(api, namespace):
                await asyncio.sleep(0.1)
        await running(client, job)
        await client.cancel(job, force=True)
        assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED


async def test_workers_trust_whom_a_setting_names_and_log_as_their_server_does(
    make_settings: MakeSettings, api: Any, namespace: str, orders: Any, tmp_path: Path
) -> None:
    """W24: a certificate of one's own for their listener, by an authority of one's own, not the server's."""
    theirs = WorkerAuthority(tmp_path / "theirs", [orders.host])  # writes what it makes there
    settings = make_settings(
        worker_tls_cert=str(tmp_path / "theirs" / "server.pem"),
        worker_tls_key=str(tmp_path / "theirs" / "server.key"),
        log_level="debug",
        SERVER_CA=str(tmp_path / "theirs" / "ca.pem"),
    )
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["sleep", "600"])
        await running(client, job)
        pod = await pod_of(api, namespace, job=job)
        assert pod["metadata"]["annotations"]["hodei.io/server-ca"].encode() == theirs.ca_pem
        told = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
        assert (str(told["HODEI_SERVER_ADDRESS"])[:8], told["HODEI_LOG_LEVEL"]) == ("https://", "debug")
        await client.cancel(job, force=True)
        await client.wait(job)


async def test_names_that_a_pod_can_not_have_are_refused_at_submit(client: Client) -> None:
    """W38: by the field and the key; where another provider could take the job they are no error."""
    for names, field in (
        ({"labels": {"app": "mine"}}, "spec.labels['app']"),
        ({"labels": {"hodei.io/tenant": "other"}}, "spec.labels['hodei.io/tenant']"),
        ({"annotations": {"no key": "x"}}, "spec.annotations['no key']"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            await client.submit(["true"], **names)  # type: ignore[arg-type]  # fields of a job
        assert field in str(refused.value)


async def test_a_warm_pod_is_given_the_names_of_each_of_its_jobs(
    make_settings: MakeSettings, api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the job before are gone with it."""
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY", "1")
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_MAX", "1")
    async with (
        Server(make_settings(worker_max_jobs="0"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        async with asyncio.timeout(PATIENCE):
            while not [worker async for worker in client.workers() if worker.warm and worker.connected]:
                await asyncio.sleep(0.1)
        warm = await pod_of(api, namespace)
        assert "hodei.io/job" not in warm["metadata"]["labels"]
        for names in ({"team": "a"}, {"stage": "dev"}):
            job = await client.submit(["sleep", "600"], labels=names)
            pod = await pod_of(api, namespace, job=job)
            assert pod["metadata"]["uid"] == warm["metadata"]["uid"]
            own = {key: value for key, value in pod["metadata"]["labels"].items() if "/" not in key and key != "app"}
            assert own == names
            assert pod["metadata"]["labels"]["hodei.io/tenant"] == "default"
            await client.cancel(job, force=True)
            await client.wait(job)


async def test_what_fits_no_node_in_time_is_called_unschedulable(client: Client) -> None:
    """W02: not a start that was merely late; with the scheduler's words."""
    job = await client.submit(
        ["true"],
        resources=wire.Resources(cpu_millis=50_000),
        start_timeout=30,
        retry=wire.RetryPolicy(max_infrastructure_retries=0),
    )
    async with asyncio.timeout(PATIENCE):
        outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_UNSCHEDULABLE, outcome
    assert "Insufficient cpu" in outcome.message


DYING = """
import asyncio, os, sys
from pathlib import Path
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import make_request

async def main(folder, namespace, worker_id):
    address = os.environ.get("HODEI_K8S_SERVER_ADDRESS", "")
    config = KubernetesConfig(namespace=namespace, server_address=address, worker_image="busybox:stable")
    async with KubernetesProvider(config=config, data_dir=Path(folder)) as provider:
        await provider.launch(make_request(worker_id=worker_id))

asyncio.run(main(*sys.argv[1:]))
"""


async def die(point: str, folder: Path, namespace: str, worker_id: str) -> None:
    """Launch a worker in a process that dies at a point of it."""
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", DYING, str(folder), namespace, worker_id],
        env={**os.environ, VARIABLE: point},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -9, process.stderr.decode()


async def test_a_secret_that_was_left_without_a_pod_goes_after_its_grace(
    api: Any, played: KubernetesConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W11, W12: nothing but the folder knows of it; what has a pod is owned by it, and another's secret stays."""
    space = played.namespace
    for worker_id, point, folder in (
        ("left", "kubernetes.secret_made", "mine"),
        ("half", "kubernetes.pod_made", "mine"),
        ("foreign", "kubernetes.secret_made", "other"),
    ):
        await die(point, tmp_path / folder, space, worker_id)
    assert {"hodei-worker-left", "hodei-worker-half", "hodei-worker-foreign"} <= set(await secrets_of(api, space))
    async with KubernetesProvider(config=played, data_dir=tmp_path / "mine") as provider:
        await provider._launches.sweep()
        assert "hodei-worker-left" in await secrets_of(api, space), "its grace has not passed"
    monkeypatch.setattr(unowned_module, "GRACE_SECONDS", 0.0)
    async with KubernetesProvider(config=played, data_dir=tmp_path / "mine") as provider:
        await provider._launches.sweep()
        assert set(await secrets_of(api, space)) >= {"hodei-worker-half", "hodei-worker-foreign"}
        assert "hodei-worker-left" not in await secrets_of(api, space)
        half = await api.get(f"/api/v1/namespaces/{space}/secrets/hodei-worker-half")
        assert half["metadata"]["ownerReferences"][0]["kind"] == "Pod"
        assert list((tmp_path / "mine" / "unowned").iterdir()) == []
        (handle,) = await provider.list(INSTALLATION)
        await destroyed(provider, handle)
        assert "hodei-worker-half" not in await secrets_of(api, space)


async def test_a_burnt_token_leaves_no_secret_and_the_pod_runs_on(
    api: Any, played: KubernetesConfig, tmp_path: Path
) -> None:
    """W24: twice is fine, and so is a worker that is gone; whom it trusts is no secret, the setting's before all."""
    authority = tmp_path / "ca.pem"
    authority.write_text("of the setting")
    config = dataclasses.replace(played, server_ca=str(authority))
    async with KubernetesProvider(config=config) as provider:
        handle = await provider.launch(make_request(ca_pem=b"of the server"))
        await until(provider, handle, WorkerPhase.RUNNING)
        pod = await pod_of(api, played.namespace)
        assert pod["metadata"]["annotations"]["hodei.io/server-ca"] == "of the setting"
        await provider.registered(handle)
        await provider.registered(handle)
        assert f"{handle.data['pod']}" not in await secrets_of(api, played.namespace)
        assert (await provider.describe(handle)).phase is WorkerPhase.RUNNING
        await destroyed(provider, handle)
        await provider.registered(handle)


SIDECAR = {
    "name": "sidecar",
    "image": "busybox:stable",
    "restartPolicy": "Always",
    # It never ends by itself, and says that it has failed when it is asked to.
    "command": ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.2; done"],
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


async def test_a_patched_pod_has_a_sidecar_that_does_not_outlive_its_job(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """W37: the settings' patch reaches the pod, jobs end as they do, and the sidecar goes with them."""
    patch = {
        "metadata": {"annotations": {"example.com/patched": "yes"}},
        "spec": {
            "initContainers": [SIDECAR],
            "containers": [{"name": "worker", "lifecycle": {}, "env": [{"name": "HODEI", "value": "patched"}]}],
        },
    }
    async with (
        Server(make_settings(POD_TEMPLATE_PATCH=json.dumps(patch)), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        # One that stays until its kubelet has told that all of its pod runs.
        job = await client.submit(["sleep", "600"])
        pod = await pod_of(api, namespace, job=job)
        assert pod["metadata"]["annotations"]["example.com/patched"] == "yes"
        (sidecar,) = pod["status"]["initContainerStatuses"]
        assert "running" in sidecar["state"]
        assert {"name": "HODEI", "value": "patched"} in pod["spec"]["containers"][0]["env"]
        await client.cancel(job)
        assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        await nothing_left(api, namespace)
