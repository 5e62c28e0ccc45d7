"""Many tenants' namespaces, each with its watch, against an API that is played: nobody else waits for these."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.spaces import Spaces
from hodei_providers.testing import make_request

EVERYWHERE = "/api/v1/pods"


class ManyTenants:
    """A cluster with namespaces of tenants, whose pods may be read one namespace after the other.

    :ivar listed: how many lists of pods there were.
    :ivar watching: how many watches there are now.
    :ivar before: how many lists there were before the first pod was made.
    :ivar changed: is set by each list and each watch.
    """

    def __init__(self, tenants: int) -> None:
        self.tenants = tenants
        self.listed, self.watching, self.before = 0, 0, -1
        self.changed = asyncio.Event()
        self._over = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        path = request.path
        if path == EVERYWHERE:
            return web.json_response({"message": 'User "server" cannot list resource "pods"'}, status=403)
        if path == "/api/v1/namespaces":
            labels = [{"hodei.io/managed": "true", "hodei.io/tenant": f"t{each}"} for each in range(self.tenants)]
            items = [{"metadata": {"name": f"of-{each['hodei.io/tenant']}", "labels": each}} for each in labels]
            return web.json_response({"items": items, "metadata": {}})
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            self.watching += 1
            self.changed.set()
            await self._over.wait()
            return response
        if request.method == "GET" and path.endswith("/pods"):
            self.listed += 1
            self.changed.set()
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        if request.method == "POST" and path.endswith("/pods") and "dryRun" not in request.query:
            self.before = self.listed
        made: dict[str, Any] = await request.json() if request.can_read_body else {"items": [], "metadata": {}}
        made["metadata"]["uid"] = "u"
        return web.json_response(made)

    async def until(self, watching: int, listed: int) -> None:
        """Wait for so many watches and lists."""
        while self.watching < watching or self.listed < listed:
            self.changed.clear()
            await self.changed.wait()

    @contextlib.asynccontextmanager
    async def watched(self, folder: Path, **options: Any) -> AsyncIterator[KubernetesProvider]:
        """Give a provider that watches all of them."""
        async with asyncio.timeout(50), playing(self.answer, folder) as played:
            own: dict[str, Any] = {"namespace": "home", "namespace_prefix": "of-", "server_address": "10.0.0.1:1"}
            config = dataclasses.replace(played, dynamic_namespaces=True, ensure=False, **own, **options)
            async with KubernetesProvider(config=config) as provider:
                watch: Any = provider.watch("installation")
                told = asyncio.ensure_future(anext(watch))
                try:
                    yield provider
                finally:
                    told.cancel()
                    await asyncio.gather(told, return_exceptions=True)
                    await watch.aclose()
                    self._over.set()


async def test_a_launch_needs_no_connection_that_a_watch_has(tmp_path: Path) -> None:
    """W28: however many namespaces are watched, each by one that lasts, there is one for it."""
    cluster = ManyTenants(150)
    async with cluster.watched(tmp_path, api_rate=10_000.0) as provider:
        await cluster.until(watching=151, listed=151)
        await provider.launch(make_request("installation", labels={"tenant": "t1"}))
        assert cluster.before >= 151
        assert cluster.watching == 151


async def test_a_launch_does_not_wait_until_every_namespace_is_listed(tmp_path: Path) -> None:
    """W28: watches have turns of their own, that leave some of the rate to those whom somebody waits for."""
    cluster = ManyTenants(400)
    async with cluster.watched(tmp_path, api_rate=20.0) as provider:
        await cluster.until(watching=0, listed=1)
        await provider.launch(make_request("installation", labels={"tenant": "t1"}))
        assert 0 < cluster.before < 400


@pytest.mark.parametrize("tenants", [1, 100, 500, 2000])
async def test_watches_of_namespaces_are_begun_anew_as_seldom_as_the_rate_wants_it(tenants: int) -> None:
    """W28: with few of them as it is set; with many they take a quarter of the rate, whatever else goes on."""
    config = KubernetesConfig(dynamic_namespaces=True, resync=30.0, api_rate=50.0, max_namespaces=5000)
    nobody: Any = None
    quiet: Any = _Quiet
    spaces = Spaces(nobody, config)
    spaces._refused()
    spaces.refresh = _nothing  # type: ignore[method-assign]
    for tenant in range(tenants - 1):
        spaces.of(f"w{tenant}", f"t{tenant}")
    assert spaces.resync() == 30.0
    hearing: Any = spaces.descriptions(quiet)
    told = asyncio.ensure_future(anext(hearing))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # A list and a watch of each.
    assert 2 * tenants / spaces.resync() <= 50.0 / 4
    assert spaces.resync() == max(30.0, tenants * 0.16)
    told.cancel()
    await asyncio.gather(told, return_exceptions=True)
    await hearing.aclose()


async def _nothing() -> None:
    """Find no namespace."""


class _Quiet:
    """A watch that has nothing to tell."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def descriptions(self) -> AsyncIterator[Any]:
        """Tell nothing."""
        await asyncio.Event().wait()
        yield self
