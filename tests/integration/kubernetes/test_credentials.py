"""Credentials that the cluster takes no longer, while a server uses them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_faults.cluster import nothing_left, output, pod_of, running
from hodei_faults.cluster import until as until_so
from hodei_providers.contract import ProviderUnavailableError, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request
from hodei_server.app import Server

WriteToken = Callable[..., Awaitable[str]]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
async def write_token(api: Any, played: KubernetesConfig, tmp_path: Path) -> WriteToken:
    """Return what writes a kubeconfig with a token that lives as long as the secret it is bound to."""
    space, name = f"/api/v1/namespaces/{played.namespace}", "somebody"
    await api.create(f"{space}/serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": name}})
    binding = {
        "kind": "RoleBinding",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": played.namespace}],
    }
    await api.create(f"{RBAC}/namespaces/{played.namespace}/rolebindings", binding)
    # What the server would make in the namespace, had it the rights.
    await api.create(f"{space}/serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "hodei-jobs-worker"}})
    file, token_file, credential = (tmp_path / name for name in ("kubeconfig", "token", "credential"))
    version = "client.authentication.k8s.io/v1"
    command = {"apiVersion": version, "command": "cat", "args": [str(credential)], "interactiveMode": "Never"}

    async def write(secret: str, how: str = "token") -> str:
        await api.create(f"{space}/secrets", {"kind": "Secret", "metadata": {"name": secret}})
        request = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": secret}},
        }
        token = (await api.create(f"{space}/serviceaccounts/{name}/token", request))["status"]["token"]
        admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
        token_file.write_text(token)
        credential.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}))
        user = {"token": {"token": token}, "tokenFile": {"tokenFile": str(token_file)}, "exec": {"exec": command}}[how]
        admin["users"] = [{"name": each["name"], "user": user} for each in admin["users"]]
        file.write_text(json.dumps(admin))
        return str(file)

    return write


async def test_a_token_that_has_expired_is_read_again_and_nothing_is_lost(
    api: Any, played: KubernetesConfig, orders: Any, write_token: WriteToken
) -> None:
    """W08, W28: told as long as there is no other; then the same provider goes on, and so does its watch."""
    config = dataclasses.replace(played, kubeconfig=await write_token("first"), ensure=False)
    async with KubernetesProvider(config=config) as provider:

        async def is_let_in() -> bool:
            return (await provider.health()).healthy

        await until_so(is_let_in)
        request = make_request()
        handle = await provider.launch(request)
        watching = asyncio.ensure_future(anext(provider.watch(INSTALLATION)))
        await api.delete(f"/api/v1/namespaces/{played.namespace}/secrets/first")

        async def refused() -> bool:
            return "nauthorized" in (await provider.health()).message

        await until_so(refused)
        with pytest.raises(ProviderUnavailableError, match="nauthorized"):
            await provider.list(INSTALLATION)
        await write_token("second")
        await until_so(is_let_in)
        assert (await provider.describe(handle)).phase is not WorkerPhase.MISSING
        orders.code(request.worker_id).set_result(4)
        # A node that has lost its API for a while before may be slow to tell.
        async with asyncio.timeout(180):
            assert (await watching).exit_code == 4
        await destroyed(provider, handle)


@pytest.mark.parametrize("how", ["tokenFile", "exec"])
async def test_jobs_run_and_log_over_the_end_of_the_servers_token(
    make_settings: Callable[..., Any],
    api: Any,
    played: KubernetesConfig,
    orders: Any,
    write_token: WriteToken,
    *,
    how: str,
) -> None:
    """W08, W14, W28: one ends meanwhile, one goes on, one waits for the next token; nothing is lost or doubled."""
    settings = make_settings(KUBECONFIG=await write_token("first", how), ENSURE="false", IMAGE_USER="1000")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        say = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.3; done"
        goes = await client.submit(["sh", "-c", say], image="busybox:stable")
        word = f"wget -qO /dev/null http://{orders.host}:{orders.port}/ends; echo $HODEI_ATTEMPT"
        ends = await client.submit(["sh", "-c", word], image="busybox:stable")
        pods = {}
        for job in (goes, ends):
            await running(client, job)
            pods[job] = (await pod_of(api, played.namespace, job))["metadata"]["uid"]
        await api.delete(f"/api/v1/namespaces/{played.namespace}/secrets/first")

        async def refused() -> bool:
            return "nauthorized" in (await client.provider("kubernetes")).health_message

        await until_so(refused)
        waits = await client.submit(["echo", "hello"])
        orders.code("ends").set_result(0)
        assert (await client.wait(ends)).state == wire.JOB_STATE_SUCCEEDED
        assert await output(client, ends, STDOUT) == "1\n"
        # The other's lines go on, too, far beyond what it had said before the token ended.
        lines = 0
        async for event in client.logs(goes):
            lines += event.data.count(b"\n") if isinstance(event, Chunk) and event.stream == STDOUT else 0
            if lines >= 100:
                break
        assert (await client.get(waits)).state in {wire.JOB_STATE_QUEUED, wire.JOB_STATE_STARTING}
        await write_token("second", how)
        assert (await client.wait(waits)).state == wire.JOB_STATE_SUCCEEDED
        assert await output(client, waits, STDOUT) == "hello\n"
        assert (await client.get(goes)).state == wire.JOB_STATE_RUNNING
        assert (await pod_of(api, played.namespace, goes))["metadata"]["uid"] == pods[goes]
        await client.cancel(goes)
        assert (await client.wait(goes)).state == wire.JOB_STATE_CANCELLED
        numbers = (await output(client, goes, STDOUT)).split()
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
        for job in (goes, ends):
            assert len((await client.get(job)).attempts) == 1
            assert (await client.receipt(job)).complete
        await nothing_left(api, played.namespace)
