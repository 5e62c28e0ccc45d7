"""Images of a registry that wants credentials: nodes of a real cluster pull them with the secrets that a setting names.

The registry runs in a pod, in its node's own network: nodes speak plain HTTP with their loopback alone. Python comes to
it with the server's image: HODEI_TEST_SERVER_IMAGE, else `hodei-jobs-server:latest`; nodes must have it.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults import registry
from hodei_faults.cluster import output, remove, until
from hodei_faults.logs import read, until_said
from hodei_server.app import Server

MakeSettings = Callable[..., Any]
SetPassword = Callable[[str], Awaitable[None]]
SECRET, USER, PASSWORD = "registry", "reader", "a password of theirs"
NO_RETRY = wire.RetryPolicy(max_infrastructure_retries=0)


@dataclasses.dataclass(frozen=True)
class Closed:
    """A registry that wants credentials.

    :ivar node: that can reach it.
    """

    host: str
    node: str

    def image(self) -> str:
        """Return a name of its image that no node has pulled yet: one that it has it may start without asking again."""
        return f"{self.host}/hodei/image:1-{secrets.token_hex(6)}"


def registry_pod() -> dict[str, Any]:
    """Return a pod that serves an image of busybox to whom gives the password, and prints where."""
    shared = {"name": "shared", "mountPath": "/shared"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "registry"},
        "spec": {
            "hostNetwork": True,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "initContainers": [
                {
                    "name": "program",
                    "image": "busybox:stable",
                    "command": ["cp", "/bin/busybox", "/shared/busybox"],
                    "volumeMounts": [shared],
                }
            ],
            "containers": [
                {
                    "name": "registry",
                    "image": os.environ.get("HODEI_TEST_SERVER_IMAGE", "hodei-jobs-server:latest"),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "/code/registry.py", "/shared/busybox", f"{USER}:{PASSWORD}"],
                    "volumeMounts": [shared, {"name": "code", "mountPath": "/code"}],
                }
            ],
            "volumes": [
                {"name": "shared", "emptyDir": {}},
                {"name": "code", "configMap": {"name": "registry"}},
            ],
        },
    }


@pytest.fixture
async def closed(api: Any, namespace: str) -> AsyncIterator[Closed]:
    """Return a registry on a node, which that node alone can reach."""
    space = f"/api/v1/namespaces/{namespace}-registry"
    names = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-registry"}}
    await api.create("/api/v1/namespaces", names)
    try:
        code = {"registry.py": inspect.getsource(registry)}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"}, "data": code}
        await api.create(f"{space}/configmaps", manifest)
        await api.create(f"{space}/pods", registry_pod())

        async def started() -> Any:
            pod = await api.get(f"{space}/pods/registry")
            return pod if pod["status"].get("phase") == "Running" else None

        async def address() -> str:
            said: str = await api.text(f"{space}/pods/registry/log")
            return said.strip()

        pod = await until(started)
        yield Closed(await until(address), pod["spec"]["nodeName"])
    finally:
        await remove(api, space)


@pytest.fixture
async def set_password(api: Any, namespace: str, closed: Closed) -> SetPassword:
    """Return what puts a password into the pull secret of the provider's namespace."""
    space = f"/api/v1/namespaces/{namespace}"
    await api.apply(space, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    async def put(password: str) -> None:
        given = base64.b64encode(f"{USER}:{password}".encode()).decode()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps({"auths": {closed.host: {"auth": given}}})},
        }
        await api.apply(f"{space}/secrets/{SECRET}", secret, manager="administrator")

    return put


@pytest.fixture
def settings(make_settings: MakeSettings, prefix: str, closed: Closed) -> Callable[..., Any]:
    """Return what makes settings of a server whose tenants' jobs run where the registry is."""

    def make(grace: str, **overrides: str) -> Any:
        own = {
            "DYNAMIC_NAMESPACES": "true",
            "NAMESPACE_PREFIX": prefix,
            "IMAGE_PULL_SECRETS": SECRET,
            "IMAGE_PULL_GRACE": grace,
            "NODE_SELECTOR": f"kubernetes.io/hostname={closed.node}",
            "RESYNC": "1s",
        }
        return make_settings(**own | overrides)

    return make


async def test_a_tenants_job_is_pulled_with_the_copy_of_a_secret_that_is_kept_current(
    settings: Callable[..., Any], set_password: SetPassword, closed: Closed, api: Any, prefix: str
) -> None:
    """W01, W42: it succeeds, and fails by its image, in the registry's words, once the secret has become wrong."""
    await set_password(PASSWORD)
    copy = f"/api/v1/namespaces/{prefix}acme/secrets/{SECRET}"
    async with (
        Server(settings("3s"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["busybox", "echo", "pulled"], image=closed.image(), tenant="acme", retry=NO_RETRY)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED, await output(client, job)
        assert await read(client, job) == b"pulled\n"
        before = (await api.get(copy))["data"]
        await set_password("another")

        async def changed() -> bool:
            return bool((await api.get(copy))["data"] != before)

        await until(changed)
        job = await client.submit(["true"], image=closed.image(), tenant="acme", retry=NO_RETRY)
        assert (await client.wait(job)).cause == wire.CAUSE_IMAGE
        assert "401 Unauthorized" in await output(client, job)


async def test_a_job_that_waits_for_its_image_runs_once_the_secret_is_right(
    settings: Callable[..., Any], set_password: SetPassword, closed: Closed
) -> None:
    """W01, W03, W42: the change is made in the provider's namespace and reaches the pod that waits in the tenant's."""
    await set_password("another")
    async with (
        Server(settings("5m"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["busybox", "echo", "pulled"], image=closed.image(), tenant="acme", retry=NO_RETRY)
        await until_said(client, job, "401 Unauthorized")
        await set_password(PASSWORD)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED, await output(client, job)
        assert len((await client.get(job)).attempts) == 1
        assert await read(client, job) == b"pulled\n"


async def test_what_is_always_pulled_is_refused_without_the_right_password_though_the_node_has_it(
    settings: Callable[..., Any], set_password: SetPassword, closed: Closed
) -> None:
    """W01, W42: the name that has just run there; the registry is asked again, with the secret of the pod."""
    await set_password(PASSWORD)
    image = closed.image()
    async with (
        Server(settings("5m"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["busybox", "true"], image=image, tenant="acme", retry=NO_RETRY)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED, await output(client, job)
    await set_password("another")
    # In the place of the worker's own, which this registry has not: no worker is to start.
    always = settings("3s", worker_image=image, IMAGE_PULL_POLICY="Always")
    async with Server(always, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"], tenant="else", retry=NO_RETRY)
        assert (await client.wait(job)).cause == wire.CAUSE_IMAGE
        assert "401 Unauthorized" in await output(client, job)
