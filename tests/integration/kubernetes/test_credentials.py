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

from hodei_faults.cluster import until as until_so
from hodei_providers.contract import ProviderUnavailableError, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
async def write_token(api: Any, played: KubernetesConfig, tmp_path: Path) -> Callable[[str], Awaitable[str]]:
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
    file = tmp_path / "kubeconfig"

    async def write(secret: str) -> str:
        await api.create(f"{space}/secrets", {"kind": "Secret", "metadata": {"name": secret}})
        request = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": secret}},
        }
        token = (await api.create(f"{space}/serviceaccounts/{name}/token", request))["status"]["token"]
        admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
        admin["users"] = [{"name": each["name"], "user": {"token": token}} for each in admin["users"]]
        file.write_text(json.dumps(admin))
        return str(file)

    return write


async def test_a_token_that_has_expired_is_read_again_and_nothing_is_lost(
    api: Any, played: KubernetesConfig, orders: Any, write_token: Callable[[str], Awaitable[str]]
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
        assert (await provider.health()).healthy
        assert (await provider.describe(handle)).phase is not WorkerPhase.MISSING
        orders.code(request.worker_id).set_result(4)
        # A node that has lost its API for a while before may be slow to tell.
        async with asyncio.timeout(180):
            assert (await watching).exit_code == 4
        await destroyed(provider, handle)
