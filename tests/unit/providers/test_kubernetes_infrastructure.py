"""Tenants' namespaces against an API that is played: one that can't be seen to holds up no other."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web

from hodei.address import Address
from hodei_faults.played_api import playing
from hodei_providers.kubernetes import PodSecurityStandard
from hodei_providers.kubernetes import infrastructure as module
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.capacity import Cluster
from hodei_providers.kubernetes.health import check_health
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.manifests import make_files, make_namespace_parts
from hodei_providers.kubernetes.network import find_place
from hodei_providers.kubernetes.spaces import Spaces

TENANTS = {"home": "", "t-foreign": "foreign", "t-acme": "acme"}


class Administered:
    """A cluster where one tenant's namespace is somebody else's, and there is a pull secret.

    :ivar version: of the pull secret.
    :ivar foreign: the namespaces that are somebody else's.
    :ivar applied: what was made, or changed, by its path.
    """

    def __init__(self) -> None:
        self.version = "1"
        self.foreign = {"t-foreign"}
        self.applied: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        name = request.path.rpartition("/")[2]
        if request.method == "PATCH":
            self.applied.append(request.path)
        if request.method == "GET" and name == "registry":
            metadata = {"name": "registry", "resourceVersion": self.version}
            return web.json_response({"metadata": metadata, "type": "kubernetes.io/dockerconfigjson"})
        if request.path == f"/api/v1/namespaces/{name}":
            labels = {} if name in self.foreign else {"hodei.io/managed": "true"}
            return web.json_response({"metadata": {"name": name, "labels": labels}})
        return web.json_response({"items": [], "metadata": {}})


async def test_a_tenants_namespace_that_can_t_be_seen_to_holds_up_no_other_and_is_told(tmp_path: Path) -> None:
    """W28: the others are repaired and get what their pull secrets have become; health has the words until it heals."""
    cluster = Administered()
    copy = "/api/v1/namespaces/t-acme/secrets/registry"
    async with asyncio.timeout(60), playing(cluster.answer, tmp_path) as played:
        options = {"namespace": "home", "dynamic_namespaces": True, "image_pull_secrets": ("registry",)}
        config = dataclasses.replace(played, server_identity="server", **options)  # type: ignore[arg-type]  # as they are
        async with Api(config) as api:
            infrastructure, spaces = Infrastructure(api, config), Spaces(api, config)
            await infrastructure.keep_current(TENANTS)
            assert copy in cluster.applied
            health = await check_health("k", api, config, infrastructure, spaces=spaces, cluster=Cluster())
            assert health.degraded
            assert "t-foreign can't be seen to" in health.message
            assert "is not Hodei's" in health.message
            cluster.applied.clear()
            cluster.version = "2"
            await infrastructure.keep_current(TENANTS)
            assert copy in cluster.applied
            cluster.foreign.clear()
            await infrastructure.keep_current(TENANTS)
            assert "/api/v1/namespaces/t-foreign/secrets/registry" in cluster.applied
            health = await check_health("k", api, config, infrastructure, spaces=spaces, cluster=Cluster())
            assert (health.degraded, health.message) == (False, "")


WHO = "an outside user"


async def refuse(request: web.Request) -> web.StreamResponse:
    """Play an API that lets the server make nothing."""
    if request.path.endswith("/selfsubjectreviews"):
        return web.json_response({"status": {"userInfo": {"username": WHO}}})
    return web.json_response({"message": f'User "{WHO}" cannot do it'}, status=403)


@pytest.mark.parametrize(
    ("tenant", "command"),
    [
        ("", "hodei k8s manifests --identity 'an outside user'"),
        ("acme", "hodei k8s manifests --tenant acme --identity 'an outside user'"),
    ],
)
async def test_what_may_not_be_made_names_the_command_that_prints_it_for_this_server(
    tmp_path: Path, tenant: str, command: str
) -> None:
    """For the tenant's namespace, bound to whom the server is."""
    async with asyncio.timeout(60), playing(refuse, tmp_path) as config, Api(config) as api:
        infrastructure = Infrastructure(api, config)
        await infrastructure.ensure("space", tenant)
    assert f"`{command}`" in infrastructure.problems["space"][-1]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_the_command_prints_in_any_shell_what_this_server_would_make(
    tmp_path: Path, *, tenant: str, dynamic: bool
) -> None:
    """Its settings stand before it, where the server listens too, whatever they hold."""
    egress = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 80}]}
    settings: dict[str, Any] = {
        "namespace": "team-jobs",
        "namespace_prefix": "team-",
        "dynamic_namespaces": dynamic,
        "image_pull_secrets": ("one", "two"),
        "pod_security_standard": PodSecurityStandard.BASELINE,
        "service_account": "team-worker",
        "default_cpu_request": "100m",
        "default_cpu_limit": "1",
        "default_memory_request": "64Mi",
        "default_memory_limit": "512Mi",
        "quota": {"pods": "5", "limits.cpu": "10"},
        "dns_peers": ({"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},),
        "network_egress": (egress,),
    }
    server = Address("10.0.0.1", 7000)
    async with asyncio.timeout(60), playing(refuse, tmp_path) as played:
        config = dataclasses.replace(played, **settings)
        async with Api(config) as api:
            infrastructure = Infrastructure(api, config)
            infrastructure.listening(server)
            await infrastructure.ensure("space", tenant)
    found = re.search("`([^`]*)`", infrastructure.problems["space"][-1])
    assert found is not None
    clean = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = await asyncio.to_thread(
        subprocess.run, ["sh", "-ec", found[1]], env=clean, capture_output=True, text=True, check=True
    )
    parts, place = list(yaml.safe_load_all(printed.stdout)), find_place(config, server)
    if tenant:
        assert parts == make_namespace_parts("team-acme", config, WHO, place, tenant="acme")
    else:
        expected = [part for file in make_files(config, WHO, place).values() for part in file]
        assert sorted(parts, key=str) == sorted(expected, key=str)


async def test_what_an_administrator_may_have_settled_is_looked_at_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is in order once in a while."""
    clock, allowed, applied = [1000.0], False, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal applied
        applied += request.method == "PATCH"
        if allowed:
            return web.json_response({"metadata": {"resourceVersion": "1"}})
        return web.json_response({"message": 'User "server" cannot do it'}, status=403)

    async with asyncio.timeout(60), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, server_identity="server")
        async with Api(config) as api:
            infrastructure = Infrastructure(api, config)
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
            for later, looks, problem in (
                (0.0, True, True),
                (29.0, False, True),
                (2.0, True, False),
                (31.0, False, False),
            ):
                clock[0] += later
                before = applied
                await infrastructure.ensure("space")
                assert (applied > before, bool(infrastructure.problems["space"])) == (looks, problem)
                # Somebody sees to it after the first look.
                allowed = True
