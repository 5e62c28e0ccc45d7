"""The server itself in a real cluster, from the manifests of deploy/k8s; `kubectl` is what administrators have.

Its image is HODEI_TEST_SERVER_IMAGE, else `hodei-jobs-server:latest`; nodes must have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hodei.transport import TlsFiles
from hodei.v1 import types_pb2 as wire
from hodei_client import UnavailableError
from hodei_faults.cluster import pod_of, running, until
from hodei_faults.kubectl import PATIENCE, Kubectl, printed
from hodei_faults.logs import read
from hodei_faults.needs import lacks
from hodei_faults.production import production_variables, see_as_written
from hodei_providers.kubernetes.api import Api

pytestmark = pytest.mark.timeout(800)
FOLDER = Path(__file__).parents[3] / "deploy" / "k8s"
SMALL = {
    "HODEI_K8S_DEFAULT_CPU_REQUEST": "50m",
    "HODEI_K8S_DEFAULT_MEMORY_REQUEST": "64Mi",
    "HODEI_K8S_DEFAULT_MEMORY_LIMIT": "512Mi",
    "HODEI_K8S_DEFAULT_STORAGE_REQUEST": "16Mi",
}


@pytest.fixture
async def place(api: Api, namespace: str) -> AsyncIterator[str]:
    """Return the name of a namespace for the server; what becomes of it is deleted."""
    name = f"{namespace}-server"
    yield name
    with contextlib.suppress(Exception):
        await api.delete(f"/api/v1/namespaces/{name}")


def helper_pod(name: str, script: str, path: str) -> dict[str, Any]:
    """Return a pod that runs a script as root beside a folder of its node."""
    container = {
        "name": name,
        "image": "busybox:stable",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "node", "mountPath": "/node"}],
    }
    volume = {"name": "node", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def volume(kubectl: Kubectl, place: str) -> AsyncIterator[None]:
    """Have a volume for the server's claim where no StorageClass makes one: a folder of a node."""
    classes = json.loads(await kubectl("get", "storageclass", "-o", "json"))["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    if any(each["metadata"].get("annotations", {}).get(default) == "true" for each in classes):
        yield
        return
    space, folder = f"{place}-volume", f"hodei-test-{secrets.token_hex(4)}"
    await kubectl("create", "namespace", space)

    async def on_the_node(name: str, script: str) -> str:
        await kubectl("-n", space, "apply", "-f", "-", stdin=yaml.safe_dump(helper_pod(name, script, "/var/tmp")))
        await kubectl("-n", space, "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", PATIENCE)
        return await kubectl("-n", space, "get", "pod", name, "-o", "jsonpath={.spec.nodeName}")

    node = await on_the_node("make", f"mkdir -m 700 /node/{folder} && chown 10001:10001 /node/{folder}")
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "hodei-server-data", "namespace": place}
    made = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": place},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/var/tmp/{folder}", "type": "Directory"},
            "claimRef": claim,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
    await kubectl.apply([made])
    yield
    await kubectl("delete", "namespace", place, "--ignore-not-found", PATIENCE)
    await kubectl("delete", "pv", place, "--ignore-not-found", PATIENCE)
    await on_the_node("clean", f"rm -rf /node/{folder}")
    await kubectl("delete", "namespace", space, "--wait=false")


@pytest.fixture
async def deploy(
    kubectl: Kubectl, namespace: str, place: str, worker_image: str
) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Return what brings up the server in this test's namespaces, with more options of the command that prints it."""
    image = os.environ.get("HODEI_TEST_SERVER_IMAGE", "hodei-jobs-server:latest")
    own = {
        "HODEI_K8S_NAMESPACE": namespace,
        "HODEI_K8S_SERVER_NAMESPACE": place,
        "HODEI_WORKER_IMAGE": worker_image,
    }

    async def bring_up(
        *options: str,
        secret: dict[str, Any] | None = None,
        volume: dict[str, Any] | None = None,
        settings: Mapping[str, str] = SMALL,
    ) -> None:
        variables = {**settings, **own}
        parts = await printed("--add", "server", "--add", "hpa", "--server-image", image, *options, **variables)
        for part in parts:
            if part["kind"] == "Deployment" and volume is not None:
                volumes = part["spec"]["template"]["spec"]["volumes"]
                volumes[:] = [volume if each["name"] == volume["name"] else each for each in volumes]
        await kubectl.apply([part for part in parts if part["kind"] == "Namespace"])
        await kubectl.apply([*parts, *([secret] if secret else [])])
        assert "Warning" not in kubectl.warnings
        await kubectl("-n", place, "rollout", "status", "deployment/hodei-server", PATIENCE)

    yield bring_up
    bound = f"hodei-server-cluster:system:serviceaccount:{place}:hodei-server"
    await kubectl("delete", "clusterrolebinding", bound, "--ignore-not-found")


@pytest.mark.usefixtures("volume")
async def test_the_server_runs_in_the_cluster_and_comes_back_with_every_log(
    kubectl: Kubectl, deploy: Callable[..., Awaitable[None]], api: Api, namespace: str, place: str
) -> None:
    """W14, W26: with its account's rights alone; a pod that is deleted costs neither a log nor a job that runs."""
    await deploy()
    async with kubectl.forwarded(place) as client:

        async def is_well() -> bool:
            (provider,) = await client.providers()
            return provider.healthy and bool(provider.health_message)

        await until(is_well)
        done = await client.submit(["seq", "50000"])
        outcome = await client.wait(done)
        assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
        before = await read(client, done)
        assert before.split() == [b"%d" % number for number in range(1, 50001)]
        script = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; sleep 0.2; done"
        runs = await client.submit(["sh", "-c", script])
        await running(client, runs)
        pod = await pod_of(api, namespace, runs)
    await kubectl("-n", place, "delete", "pod", "-l", "app=hodei-server", PATIENCE)

    async def is_back() -> bool:
        # The deployment's own status may still be of the pod before.
        pods = (await api.get(f"/api/v1/namespaces/{place}/pods", labelSelector="app=hodei-server"))["items"]
        conditions = [each for pod in pods for each in pod["status"].get("conditions") or []]
        return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)

    await until(is_back)
    async with kubectl.forwarded(place) as client:
        assert await read(client, done) == before
        outcome = await client.wait(runs)
        assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
        assert (await read(client, runs)).split() == [b"%d" % number for number in range(1, 101)]
        assert len((await client.get(runs)).attempts) == 1
    assert pod["spec"]["serviceAccountName"] == "hodei-jobs-worker"
    policy = "networkpolicies/hodei-jobs-workers-netpol"
    spec = (await api.get(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/{policy}"))["spec"]
    inside = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}},
        "podSelector": {"matchLabels": {"app": "hodei-server"}},
    }
    assert spec["egress"][1:] == [{"to": [inside], "ports": [{"protocol": "TCP", "port": 50052}]}]


async def test_with_a_certificate_the_service_is_open_to_who_has_one_too(
    kubectl: Kubectl, deploy: Callable[..., Awaitable[None]], place: str, tmp_path: Path
) -> None:
    """From a Secret as cert-manager makes it; without one of theirs, clients are not let in."""
    authority = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt"
    script = (
        "openssl req -newkey rsa:2048 -nodes -subj /CN=$0 -keyout $0.key -out $0.csr; "
        f"echo subjectAltName=IP:127.0.0.1,DNS:hodei-server.{place}.svc > ext; "
        "openssl x509 -req -in $0.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $0.crt"
    )
    for command in ((authority,), (script, "server"), (script, "alice")):
        made = await asyncio.create_subprocess_exec(
            "sh", "-ec", *command, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL
        )
        assert await made.wait() == 0
    files = {"tls.crt": "server.crt", "tls.key": "server.key", "ca.crt": "ca.crt"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "certificate", "namespace": place},
        "type": "kubernetes.io/tls",
        "stringData": {name: (tmp_path / file).read_text() for name, file in files.items()},
    }
    await deploy("--tls-secret", "certificate", secret=secret, volume={"name": "data", "emptyDir": {}})
    alice = TlsFiles(tmp_path / "ca.crt", tmp_path / "alice.crt", tmp_path / "alice.key")
    async with kubectl.forwarded(place, alice) as client:
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    async with kubectl.forwarded(place, TlsFiles(tmp_path / "ca.crt"), let_in=False) as client:
        with pytest.raises(UnavailableError):
            await client.get(job)


async def test_the_autoscaler_finds_the_server_and_measures_it(
    deploy: Callable[..., Awaitable[None]], api: Api, place: str
) -> None:
    """As it is shipped, beside the Deployment of the same name: it reads the processor time, and keeps to one pod."""
    if "metrics.k8s.io" not in [each["name"] for each in (await api.get("/apis"))["groups"]]:
        lacks("the cluster has no metrics.k8s.io, which an autoscaler reads")
    await deploy(volume={"name": "data", "emptyDir": {}})
    path = f"/apis/autoscaling/v2/namespaces/{place}/horizontalpodautoscalers/hodei-server"

    async def is_active() -> Mapping[str, Any] | None:
        status: Mapping[str, Any] = (await api.get(path)).get("status", {})
        true = {each["type"] for each in status.get("conditions") or [] if each["status"] == "True"}
        return status if true >= {"AbleToScale", "ScalingActive"} else None

    status = await until(is_active)
    assert (status["currentReplicas"], status["desiredReplicas"]) == (1, 1)
    (measured,) = status["currentMetrics"]
    assert measured["resource"]["name"] == "cpu"
    assert measured["resource"]["current"].keys() >= {"averageUtilization", "averageValue"}


async def test_images_are_pulled_ahead_to_every_node_and_let_go(
    kubectl: Kubectl, api: Api, namespace: str, worker_image: str
) -> None:
    """The worker's, and one that knows nothing of Hodei; in a namespace that enforces `restricted`."""
    variables = {"HODEI_K8S_NAMESPACE": namespace, "HODEI_WORKER_IMAGE": worker_image}
    parts = await printed("--add", "prepull", "--prepull-image", "busybox:stable", **variables)
    wanted = [part for part in parts if part["kind"] in {"Namespace", "ServiceAccount", "DaemonSet"}]
    await kubectl.apply(wanted[:1])
    await kubectl.apply(wanted)
    assert "Warning" not in kubectl.warnings
    await kubectl("-n", namespace, "rollout", "status", "daemonset/hodei-prepull", PATIENCE)
    nodes = json.loads(await kubectl("get", "nodes", "-o", "json"))["items"]
    status = json.loads(await kubectl("-n", namespace, "get", "daemonset", "hodei-prepull", "-o", "json"))["status"]
    assert 1 <= status["numberReady"] == status["desiredNumberScheduled"] <= len(nodes)
    await kubectl("-n", namespace, "delete", "daemonset", "hodei-prepull", PATIENCE)

    async def are_gone() -> bool:
        return not (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]

    await until(are_gone)


@pytest.mark.usefixtures("pool_of_nodes")
async def test_the_server_runs_in_the_cluster_with_the_example_for_production(
    kubectl: Kubectl, deploy: Callable[..., Awaitable[None]], api: Api, place: str, weight: int
) -> None:
    """W37: as its manifests are printed with these settings, and with a pool, which is set afterwards."""
    address = {"HODEI_K8S_SERVER_ADDRESS": f"hodei-server.{place}.svc:50052"}
    await deploy(volume={"name": "data", "emptyDir": {}}, settings=production_variables() | address)
    pool = "HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY=1"
    await kubectl("-n", place, "set", "env", "deployment/hodei-server", pool)
    await kubectl("-n", place, "rollout", "status", "deployment/hodei-server", PATIENCE)
    async with kubectl.forwarded(place) as client:

        async def waiting() -> list[Any]:
            return [each async for each in client.workers() if each.warm and each.connected]

        await until(waiting)
        held = await client.submit(["sleep", "600"])
        pod = await pod_of(api, place.removesuffix("-server"), held)
        see_as_written(pod, pod["spec"]["containers"][0]["image"], weight)
        job = await client.submit(["echo", "hello"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await read(client, job) == b"hello\n"
        await client.cancel(held, force=True)
        assert (await client.wait(held)).state == wire.JOB_STATE_CANCELLED


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir()))
async def test_the_cluster_takes_every_file_as_it_is(kubectl: Kubectl, namespace: str, place: str, file: str) -> None:
    """By its own strict check of every field, without a warning; only the namespaces are this test's."""
    for space in (namespace, place):
        await kubectl("create", "namespace", space)
    mine = {"hodei": place, "hodei-jobs-workers": namespace}
    parts = [part for part in yaml.safe_load_all((FOLDER / file).read_text()) if part]
    for part in parts:
        metadata = part["metadata"]
        if "namespace" in metadata:
            metadata["namespace"] = mine[metadata["namespace"]]
    await kubectl.apply(parts, "--dry-run=server")
    assert "Warning" not in kubectl.warnings
