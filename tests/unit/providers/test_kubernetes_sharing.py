"""Two of a server's providers that would make the same namespace: differently they may not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei.address import Address
from hodei_faults.played_api import playing
from hodei_providers.kubernetes import KubernetesConfig, PodSecurityStandard
from hodei_providers.kubernetes.manifests import make_namespace_parts
from hodei_providers.kubernetes.network import find_place
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.route import find_route
from hodei_providers.kubernetes.sharing import ONCE
from hodei_providers.memory import MemoryProvider
from hodei_providers.registry import ProviderSetupError


async def unasked(request: web.Request) -> web.StreamResponse:
    """Play a cluster of which nothing is to be asked."""
    raise AssertionError(f"{request.method} {request.path}")


async def check(folder: Path, east: dict[str, Any], west: dict[str, Any], *, elsewhere: bool = False) -> None:
    """Check a provider beside another one.

    :param elsewhere: it is of another cluster.
    """
    (folder / "there").mkdir()
    async with playing(unasked, folder) as here, playing(unasked, folder / "there") as there:
        first = KubernetesProvider("east", config=dataclasses.replace(here, **east))
        second = KubernetesProvider("west", config=dataclasses.replace(there if elsewhere else here, **west))
        await second.check_beside([MemoryProvider(), first])


TENANTS: dict[str, Any] = {"dynamic_namespaces": True, "image_pull_secrets": ("registry",)}


@pytest.mark.parametrize(
    ("east", "west", "told"),
    [
        (
            {"quota": {"pods": "10"}},
            {"quota": {"pods": "20"}},
            'QUOTA is {"pods": "10"} for east, {"pods": "20"} for west',
        ),
        ({}, {"default_memory_limit": "8Gi"}, 'DEFAULT_MEMORY_LIMIT is "4Gi" for east, "8Gi" for west'),
        (
            {"pod_security_standard": PodSecurityStandard.BASELINE},
            {},
            'POD_SECURITY_STANDARD is "baseline" for east, "restricted" for west',
        ),
        (TENANTS | {"namespace": "a"}, TENANTS | {"namespace": "b"}, 'NAMESPACE is "a" for east, "b" for west'),
        ({"listen": "10.0.0.1"}, {"listen": "10.0.0.2"}, 'LISTEN is "10.0.0.1" for east, "10.0.0.2" for west'),
    ],
)
async def test_what_a_namespace_has_once_is_not_made_in_two_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, east: dict[str, Any], west: dict[str, Any], told: str
) -> None:
    """The start is refused with both names and what differs, before anything is made."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)  # this is no pod
    with pytest.raises(ProviderSetupError) as refused:
        await check(tmp_path, east, west)
    assert f"HODEI_K8S_{told}" in str(refused.value)
    assert "providers east and west have the same " in str(refused.value)


@pytest.mark.parametrize(
    ("east", "west"),
    [
        ({}, {"max_pods": 5, "node_selector": {"pool": "large"}, "pod_labels": {"team": "a"}}),
        ({}, {"default_memory_limit": "8Gi", "namespace": "another"}),
        ({}, {"default_memory_limit": "8Gi", "ensure": False}),
        (TENANTS | {"namespace": "a"}, TENANTS | {"namespace": "b", "image_pull_secrets": ("own",)}),
        ({"server_address": "10.0.0.1:50052"}, {"server_address": "10.0.0.1:50052", "listen": "10.0.0.2"}),
        ({"server_cidr": "10.0.0.0/8"}, {"server_cidr": "10.0.0.0/8", "listen": "10.0.0.2"}),
    ],
)
async def test_what_is_each_ones_own_may_differ(tmp_path: Path, east: dict[str, Any], west: dict[str, Any]) -> None:
    """So may namespaces with all that is in them, what only one of them makes, and what decides nothing there."""
    await check(tmp_path, east, west)


async def test_two_clusters_may_have_namespaces_of_one_name(tmp_path: Path) -> None:
    """They are not the same."""
    await check(tmp_path, {}, {"default_memory_limit": "8Gi"}, elsewhere=True)


class Noting:
    """A configuration that knows what was asked of it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(KubernetesConfig(server_address="10.0.0.1:50052", server_cidr="10.0.0.1/32"), name)


def test_all_that_decides_what_a_namespace_has_once_is_compared() -> None:
    """And nothing else: the account is there by its name, as often as one likes."""
    noting: Any = Noting()
    route = find_route(noting, "https://api.example")
    place = find_place(noting, Address(route.host, route.port))
    make_namespace_parts("space", noting, noting.server_identity or "me", place)
    assert noting.asked - {"service_account"} == set(ONCE)
