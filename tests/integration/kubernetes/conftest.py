"""A real cluster, in a namespace of the tests' own: HODEI_K8S_TEST=1, and KUBECONFIG or the default kubeconfig.

The nodes must have the images `busybox:stable`, `debian:stable-slim` and HODEI_WORKER_IMAGE, and pods must reach this
machine: HODEI_K8S_SERVER_ADDRESS says where, if that is not the address that faces the cluster's API.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from hodei_faults.api_proxy import ApiProxy
from hodei_faults.cluster import PATIENCE, remove, untaint
from hodei_faults.kubectl import Kubectl
from hodei_faults.needs import lacks
from hodei_faults.production import production_variables
from hodei_providers.kubernetes import KubernetesConfig
from hodei_server.settings import Settings

pytest.importorskip("kubernetes.aio", reason="the extra 'kubernetes' is not installed")

from hodei_faults.servers import settings_in
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import AlreadyThereError
from hodei_providers.kubernetes.route import find_route

MakeSettings = Callable[..., Settings]
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
#: Small enough for many at once on one node.
SMALL: Mapping[str, Any] = {
    "default_cpu_request": "50m",
    "default_cpu_limit": "2",
    "default_memory_request": "64Mi",
    "default_memory_limit": "512Mi",
    "default_storage_request": "16Mi",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests the time to wait for two things of a busy cluster, where they don't say how much they take.

    And those of what the cluster has only once the time to wait for each other, too.
    """
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if "alone" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1600))
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def worker_image() -> str:
    """Return the worker's image; skip, or fail in CI, where there is no cluster to test on."""
    if os.environ.get("HODEI_K8S_TEST", "").lower() not in {"1", "true"}:
        lacks("HODEI_K8S_TEST is not set: no cluster to test on")
    return os.environ.get("HODEI_WORKER_IMAGE", "hodei-jobs-worker:latest")


@pytest.fixture
async def api(worker_image: str) -> AsyncIterator[Api]:
    """Return the cluster, as its administrator."""
    async with Api(KubernetesConfig(worker_image=worker_image)) as entered:
        await untaint(entered)
        yield entered


@pytest.fixture
def kubectl(worker_image: str) -> Kubectl:
    """Return the command."""
    assert worker_image
    program = os.environ.get("HODEI_TEST_KUBECTL") or shutil.which("kubectl")
    if program is None:
        assert not os.environ.get("CI"), "kubectl is missing: put it on the PATH, or name it in HODEI_TEST_KUBECTL"
        pytest.skip("kubectl is not installed")
    return Kubectl(program)


@pytest.fixture
async def proxy(api: Any) -> AsyncIterator[ApiProxy]:
    """Return a proxy before the cluster's API."""
    async with ApiProxy(api.address, api._client.rest_client.ssl_context) as entered:
        yield entered


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    """Return the name of a namespace that is not there yet; what becomes of it is deleted."""
    name = f"hodei-test-{secrets.token_hex(4)}"
    yield name
    with contextlib.suppress(Exception):
        await api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
async def prefix(api: Api, namespace: str) -> AsyncIterator[str]:
    """Return how tenants' namespaces begin; those that were made are deleted."""
    begin = f"{namespace}-t-"
    yield begin
    for each in (await api.get("/api/v1/namespaces"))["items"]:
        if each["metadata"]["name"].startswith(begin):
            await remove(api, f"/api/v1/namespaces/{each['metadata']['name']}")


class Orders:
    """Tells pods how to end: each asks for its worker's exit code and waits until there is one."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 0
        self._codes: dict[str, asyncio.Future[int]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def code(self, worker_id: str) -> asyncio.Future[int]:
        """Return what becomes a worker's exit code."""
        return self._codes.setdefault(worker_id, asyncio.get_running_loop().create_future())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            worker_id = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().strip("/")
            body = str(await self.code(worker_id)).encode()
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()
        self._writers.discard(writer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for code in self._codes.values():
            code.cancel()
        for writer in list(self._writers):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def script(self) -> str:
        """Return what plays the worker in a pod: it says so, waits for its order and exits."""
        return (
            "#!/bin/sh\n"
            "trap 'exit 0' TERM\n"
            "echo the last words\n"
            f"wget -qO /tmp/code http://{self.host}:{self.port}/$HODEI_WORKER_ID &\n"
            "wait $!\n"
            "exit $(cat /tmp/code)\n"
        )


@pytest.fixture
async def orders(api: Api) -> AsyncIterator[Orders]:
    """Return what tells pods how to end."""
    config = KubernetesConfig(server_address=os.environ.get("HODEI_K8S_SERVER_ADDRESS", ""))
    async with Orders((await asyncio.to_thread(find_route, config, api.address)).listen) as entered:
        yield entered


@pytest.fixture
async def played(api: Api, namespace: str, orders: Orders) -> KubernetesConfig:
    """Return a configuration whose pods only play workers: a script in the agent's place, in an image without any."""
    await api.apply(
        f"/api/v1/namespaces/{namespace}",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
    )
    await api.create(
        f"/api/v1/namespaces/{namespace}/configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "player"},
            "data": {"hodei-worker": orders.script()},
        },
    )
    return KubernetesConfig(
        namespace=namespace,
        server_address=os.environ.get("HODEI_K8S_SERVER_ADDRESS", ""),
        worker_image="busybox:stable",
        volumes=({"name": "player", "configMap": {"name": "player", "defaultMode": 0o555}},),
        volume_mounts=({"name": "player", "mountPath": "/opt/hodei-agent"},),
        resync=5.0,
        **SMALL,
    )


@pytest.fixture
def make_settings(tmp_path: Path, namespace: str, worker_image: str, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Return what makes settings for a server whose workers are pods; capital names are the provider's."""
    monkeypatch.setenv("HODEI_KUBERNETES_ENABLED", "1")
    monkeypatch.setenv("HODEI_K8S_NAMESPACE", namespace)
    # For so long a job's end waits for its cluster's words: a busy cluster's come later, and tests ask for them.
    monkeypatch.setattr("hodei_server.work.completion.WHY_SECONDS", PATIENCE)
    for name, value in SMALL.items():
        monkeypatch.setenv(f"HODEI_K8S_{name.upper()}", value)

    def make(**overrides: str) -> Settings:
        for name in [name for name in overrides if name.isupper()]:
            monkeypatch.setenv(f"HODEI_K8S_{name}", overrides.pop(name))
        own = {"lease": "3s", "providers": "kubernetes", "worker_image": worker_image}
        return settings_in(tmp_path / "data", **(own | overrides))

    return make


@pytest.fixture
async def account(api: Api, namespace: str, tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Return what makes a kubeconfig of an account that has no rights yet; what is bound to it in the cluster goes."""
    home = f"{namespace}-home"

    async def make(name: str) -> str:
        path = f"/api/v1/namespaces/{home}/serviceaccounts"
        manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        await api.create(path, manifest)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = (await api.create(f"{path}/{name}/token", request))["status"]["token"]
        admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
        admin["users"] = [{"name": each["name"], "user": {"token": token}} for each in admin["users"]]
        file = tmp_path / f"{name}.kubeconfig"
        file.write_text(json.dumps(admin))
        return str(file)

    await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    yield make
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    for each in (await api.get(bindings))["items"]:
        if any(subject.get("namespace") == home for subject in each.get("subjects") or []):
            await remove(api, f"{bindings}/{each['metadata']['name']}")
    await remove(api, f"/api/v1/namespaces/{home}")


@pytest.fixture
def alone() -> Iterator[None]:
    """Have to oneself what the whole cluster has only once: other processes run other files of these tests."""
    with (Path(tempfile.gettempdir()) / "hodei-test-cluster.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
async def weight(api: Any, alone: None) -> AsyncIterator[int]:  # noqa: ARG001 - it is to be had first
    """Return what the example's priority class weighs; the cluster has it meanwhile."""
    name = production_variables()["HODEI_K8S_PRIORITY_CLASS"]
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    try:
        # Pods of other tests don't make room for those that have it.
        await api.create(CLASSES, {**kind, "metadata": {"name": name}, "value": 7, "preemptionPolicy": "Never"})
    except AlreadyThereError:
        yield int((await api.get(f"{CLASSES}/{name}"))["value"])  # the cluster's own
        return
    yield 7
    await remove(api, f"{CLASSES}/{name}")


@pytest.fixture
async def pool_of_nodes(api: Any, alone: None) -> AsyncIterator[None]:  # noqa: ARG001 - the same
    """Have a node with the labels that the example selects."""
    label, _, value = production_variables()["HODEI_K8S_NODE_SELECTOR"].partition("=")
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]
    path = f"/api/v1/nodes/{node['name']}"
    await api.merge(path, {"metadata": {"labels": {label: value}}})
    yield
    await api.merge(path, {"metadata": {"labels": {label: node["labels"].get(label)}}})
