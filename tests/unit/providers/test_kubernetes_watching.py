"""Watches of pods against an API that is played: refused, too old again and again, and heard by somebody slow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.contract import Description, Handle, ProviderUnavailableError, WorkerPhase
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import GoneError
from hodei_providers.kubernetes.listing import TRIES, list_all
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.spaces import NEWS, Spaces
from hodei_providers.kubernetes.watching import RETRY_SECONDS, pause

POD = {
    "metadata": {
        "name": "hodei-worker-w1",
        "namespace": "home",
        "uid": "u",
        "labels": {"hodei.io/managed": "true", "hodei.io/instance": "installation", "hodei.io/worker-id": "w1"},
    },
    "spec": {"containers": []},
    "status": {"phase": "Failed"},
}


class Grudging:
    """A cluster that lets its pods be read namespace by namespace, and takes the right to more away.

    :ivar lists: whether the pods of the whole cluster may be listed.
    """

    def __init__(self) -> None:
        self.lists = True

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        everywhere, watch = request.path == "/api/v1/pods", "watch" in request.query
        if everywhere and (watch or not self.lists):
            verb = "watch" if watch else "list"
            return web.json_response({"message": f'User "server" cannot {verb} resource "pods"'}, status=403)
        items = [POD] if request.path == "/api/v1/namespaces/home/pods" else []
        return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})


async def test_a_right_to_the_whole_cluster_that_is_taken_away_leaves_the_namespaces(tmp_path: Path) -> None:
    """W08, W11: their watches tell, and their lists have what is there; nobody asks for ever for what is refused."""
    cluster = Grudging()
    async with asyncio.timeout(60), playing(cluster.answer, tmp_path) as played:
        options = {"namespace": "home", "dynamic_namespaces": True, "ensure": False}
        config = dataclasses.replace(played, server_address="10.0.0.1:1", **options)  # type: ignore[arg-type]  # as they are
        async with KubernetesProvider(config=config) as provider:
            assert await provider.list("installation") == []
            async with contextlib.aclosing(provider.watch("installation")) as watching:  # type: ignore[type-var]  # it is one
                told = await anext(watching)
            assert (told.handle.worker_id, told.phase) == ("w1", WorkerPhase.EXITED)
        async with KubernetesProvider(config=config) as provider:
            assert await provider.list("installation") == []
            cluster.lists = False
            assert [each.worker_id for each in await provider.list("installation")] == ["w1"]


class EnoughError(Exception):
    """The test has seen what it wanted to see."""


async def test_a_watch_that_is_too_old_again_and_again_is_begun_anew_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W10, W28: at once the first time, then as after any failure."""
    asked = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if "watch" in request.query:
            asked += 1
            return web.json_response({"reason": "Expired", "message": "too old resource version"}, status=410)
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    pauses: list[int] = []

    async def pause(failures: int, _asked: float) -> None:
        pauses.append(failures)
        if len(pauses) == 3:
            raise EnoughError

    monkeypatch.setattr("hodei_providers.kubernetes.watching.pause", pause)
    async with asyncio.timeout(60), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="home", server_address="10.0.0.1:1", ensure=False)
        async with KubernetesProvider(config=config) as provider:
            with pytest.raises(EnoughError):
                await anext(provider.watch("installation"))
    assert (asked, pauses) == (4, [2, 3, 4])


async def test_a_watch_goes_on_from_its_bookmark_and_a_full_list_finds_what_it_has_not_told(tmp_path: Path) -> None:
    """W09, W10: watches that follow one another without a hole, and a list again though they are all in order."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/api/v1/namespaces/home/pods":
            return web.json_response({"items": [], "metadata": {}})
        if "watch" not in request.query:
            asked.append("list")
            # It goes between the two lists, and no watch says so.
            items = [POD | {"status": {"phase": "Running"}}] if asked == ["list"] else []
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        assert request.query["allowWatchBookmarks"] == "true"
        asked.append(request.query["resourceVersion"])
        version = str(len(asked))
        bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": version}}}
        return web.Response(text=json.dumps(bookmark) + "\n", content_type="application/json")

    async with asyncio.timeout(60), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="home", server_address="10.0.0.1:1", ensure=False, resync=4.0)
        async with KubernetesProvider(config=config) as provider:
            found = await anext(provider.watch("installation"))
    assert (found.handle.worker_id, found.phase) == ("w1", WorkerPhase.MISSING)
    first, *watches, last = asked
    assert first == last == "list"
    assert len(watches) > 1
    assert watches == [str(number) for number in range(1, len(watches) + 1)]


async def test_a_watch_that_is_refused_is_begun_again_no_sooner_than_the_api_has_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W04, W28: 429 with Retry-After, as a call's; each time, and with something on top."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return web.json_response({"message": "too many"}, status=429, headers={"Retry-After": "7"})
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise EnoughError

    async with asyncio.timeout(60), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="home", server_address="10.0.0.1:1", ensure=False)
        async with KubernetesProvider(config=config) as provider:
            monkeypatch.setattr("hodei_providers.kubernetes.watching.asyncio", SimpleNamespace(sleep=sleep))
            with pytest.raises(EnoughError):
                await anext(provider.watch("installation"))
    assert all(each > 7.0 for each in slept)


async def test_a_watch_that_fails_for_days_is_begun_again_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """W28: its pauses have a bound."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("hodei_providers.kubernetes.watching.asyncio", SimpleNamespace(sleep=sleep))
    for failures in (1, 100, 100_000):
        await pause(failures)
    assert 0 < slept[0] <= 1.0
    assert max(slept) <= RETRY_SECONDS[1]


async def test_a_list_that_grows_too_old_before_its_end_is_not_begun_for_ever(tmp_path: Path) -> None:
    """W10, W28: whoever wants it waits, and asks again."""
    begun = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal begun
        if "continue" in request.query:
            return web.json_response({"reason": "Expired", "message": "too old"}, status=410)
        begun += 1
        return web.json_response({"items": [POD], "metadata": {"continue": "here"}})

    async with asyncio.timeout(60), playing(answer, tmp_path) as config, Api(config) as api:
        with pytest.raises(GoneError):
            await list_all(api, "/api/v1/pods")
    assert begun == TRIES


class Talkative:
    """A watch that always has something to tell."""

    def __init__(self) -> None:
        self.told = 0

    async def descriptions(self) -> AsyncIterator[Description]:
        """Tell it."""
        while True:
            self.told += 1
            yield Description(Handle(f"w{self.told}"), WorkerPhase.EXITED)
            await asyncio.sleep(0)


async def test_what_namespaces_tell_waits_for_whoever_hears_it(tmp_path: Path) -> None:
    """W28: no more is read of their watches than that one takes, and a bound."""
    watch: Any = Talkative()
    async with asyncio.timeout(60), playing(Grudging().answer, tmp_path) as played, Api(played) as api:
        config = dataclasses.replace(played, namespace="home", dynamic_namespaces=True)
        spaces = Spaces(api, config)
        spaces._refused()
        async with contextlib.aclosing(spaces.descriptions(lambda _: watch)) as hearing:  # type: ignore[type-var]  # it is one
            await anext(hearing)
            for _ in range(20 * NEWS):
                await asyncio.sleep(0)
            # Beside these: what was taken, what is about to be, and what waits for room.
            assert NEWS <= watch.told <= NEWS + 3


def test_namespaces_of_tenants_have_a_bound_and_those_that_have_one_keep_it() -> None:
    """L08: each is watched, repaired and remembered; a further tenant's launch says which setting bounds them."""
    nobody: Any = None
    config = KubernetesConfig(dynamic_namespaces=True, max_namespaces=2, namespace_prefix="of-")
    spaces = Spaces(nobody, config)
    assert [spaces.of(f"w-{tenant}", tenant) for tenant in ("a", "b")] == ["of-a", "of-b"]
    with pytest.raises(ProviderUnavailableError, match="HODEI_K8S_MAX_NAMESPACES"):
        spaces.of("w-c", "c")
    assert spaces.of("w-a2", "a") == "of-a"
    assert set(spaces.known) == {config.namespace, "of-a", "of-b"}


async def test_a_tenants_namespace_that_is_gone_is_forgotten_once_it_has_no_workers(tmp_path: Path) -> None:
    """L08: it is neither watched any more, nor one of those that are bounded."""
    there, watched = {"of-a": "a", "of-b": "b"}, set[str]()
    changed = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        labels = {name: {"hodei.io/managed": "true", "hodei.io/tenant": tenant} for name, tenant in there.items()}
        items = [{"metadata": {"name": name, "labels": each}} for name, each in labels.items()]
        return web.json_response({"items": items, "metadata": {}})

    class Noted:
        def __init__(self, path: str) -> None:
            self._namespace = path.split("/")[4]

        async def descriptions(self) -> AsyncIterator[Description]:
            watched.add(self._namespace)
            changed.set()
            try:
                await asyncio.Event().wait()
                yield Description(Handle("nobody"), WorkerPhase.EXITED)
            finally:
                watched.remove(self._namespace)
                changed.set()

    async def has(spaces: Spaces, *namespaces: str) -> None:
        assert set(spaces.known) == {*namespaces}
        while watched != {*namespaces}:
            changed.clear()
            await changed.wait()

    async with asyncio.timeout(60), playing(answer, tmp_path) as played, Api(played) as api:
        options = {"namespace": "home", "namespace_prefix": "of-", "dynamic_namespaces": True, "max_namespaces": 2}
        spaces = Spaces(api, dataclasses.replace(played, **options))  # type: ignore[arg-type]  # as they are
        spaces._refused()
        spaces.of("w1", "a")
        make_watch: Any = Noted
        hearing: Any = spaces.descriptions(make_watch)
        told = asyncio.ensure_future(anext(hearing))
        await spaces.refresh()
        await has(spaces, "home", "of-a", "of-b")
        there.clear()
        await spaces.refresh()
        await has(spaces, "home", "of-a")
        spaces.forget("w1")
        await spaces.refresh()
        await has(spaces, "home")
        assert [spaces.of(f"of {tenant}", tenant) for tenant in ("c", "d")] == ["of-c", "of-d"]
        await has(spaces, "home", "of-c", "of-d")
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)
        await hearing.aclose()


async def test_a_namespace_that_somebody_else_makes_is_kept_whatever_labels_it_has(tmp_path: Path) -> None:
    """W11: it may have workers of the process before this one."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"items": [], "metadata": {}})

    async with asyncio.timeout(60), playing(answer, tmp_path) as played, Api(played) as api:
        options = {"namespace": "home", "namespace_prefix": "of-", "dynamic_namespaces": True, "ensure": False}
        spaces = Spaces(api, dataclasses.replace(played, **options))  # type: ignore[arg-type]  # as they are
        assert spaces.of("w1", "a") == "of-a"
        spaces.forget("w1")
        await spaces.refresh()
        assert set(spaces.known) == {"home", "of-a"}
