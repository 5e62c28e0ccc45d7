"""Removals of pods against an API that is played: how a pod went, and what that says of its worker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.contract import Handle, WorkerPhase
from hodei_providers.kubernetes import ends, removal
from hodei_providers.kubernetes.provider import KubernetesProvider

HANDLE = Handle("w1", {"namespace": "space", "pod": "hodei-worker-w1"})
RUNNING: dict[str, Any] = {"running": {}}
ENDED = {"terminated": {"exitCode": 143, "reason": "Error"}}


class OnePod:
    """A cluster with the pod of worker w1 on a node, which goes when it is deleted.

    :param last: the state of its container as it goes.
    :param looks: how often that state may be seen before the pod has gone; only a watch is told in any case.
    :param takes: seconds from its deletion to its end.
    :ivar asked: how often the pod was looked at.
    """

    def __init__(self, last: dict[str, Any], *, looks: int = 1, takes: float = 0.0) -> None:
        self.last = last
        self.looks = looks
        self.takes = takes
        self.asked = 0
        self.gone, self.watched = asyncio.Event(), asyncio.Event()

    def pod(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the pod."""
        labels = {"hodei.io/managed": "true", "hodei.io/instance": "installation", "hodei.io/worker-id": "w1"}
        metadata = {"name": "hodei-worker-w1", "namespace": "space", "uid": "u", "resourceVersion": "2"}
        status = {"phase": "Running", "containerStatuses": [{"name": "worker", "state": state}]}
        return {
            "metadata": metadata | {"labels": labels},
            "spec": {"nodeName": "node1", "containers": []},
            "status": status,
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        if request.method == "DELETE":
            asyncio.get_running_loop().call_later(self.takes, self.gone.set)
            return web.json_response({})
        self.asked += "/pods/" in request.path
        if "watch" in request.query:
            self.watched.set()
            response = web.StreamResponse()
            await response.prepare(request)
            await self.gone.wait()
            event = {"type": "DELETED", "object": self.pod(self.last)}
            await response.write(json.dumps(event).encode() + b"\n")
            return response
        if request.path.endswith("/pods"):
            items = [] if self.gone.is_set() else [self.pod(RUNNING)]
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        if "/pods/" in request.path and not self.gone.is_set():
            return web.json_response(self.pod(RUNNING))
        if "/pods/" in request.path and self.looks:
            self.looks -= 1
            return web.json_response(self.pod(self.last))
        return web.json_response({"message": "there is none"}, status=404)


@contextlib.asynccontextmanager
async def entered(cluster: OnePod, folder: Path, **options: Any) -> AsyncIterator[KubernetesProvider]:
    """Give a provider of a played cluster."""
    async with asyncio.timeout(60), playing(cluster.answer, folder) as played:
        config = dataclasses.replace(played, namespace="space", server_address="10.0.0.1:1", ensure=False, **options)
        async with KubernetesProvider(config=config) as provider:
            yield provider


@contextlib.asynccontextmanager
async def watched(cluster: OnePod, folder: Path, **options: Any) -> AsyncIterator[KubernetesProvider]:
    """Give a provider that watches a played cluster's pods."""
    async with (
        entered(cluster, folder, **options) as provider,
        contextlib.aclosing(provider.watch("installation")) as watching,  # type: ignore[type-var]  # it is one
    ):
        told = asyncio.ensure_future(anext(watching))
        await cluster.watched.wait()
        try:
            yield provider
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)


@pytest.mark.parametrize(("last", "gone"), [(ENDED, True), (RUNNING, False)])
@pytest.mark.parametrize("looks", [0, 1])
async def test_a_worker_is_gone_once_its_kubelet_has_said_that_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: dict[str, Any], looks: int, *, gone: bool
) -> None:
    """W08, W14: and not as its object was taken away, by whomever, while a node without a network runs it."""
    monkeypatch.setattr(ends, "LATE_SECONDS", 60.0 if gone else 0.2)
    monkeypatch.setattr(removal, "WATCHED_POLL_SECONDS", (0.05, 0.05))
    async with watched(OnePod(last, looks=looks), tmp_path) as provider:
        for _ in range(2):
            assert await provider.destroy(HANDLE) is gone
        found = await provider.describe(HANDLE)
        assert (found.phase, found.unconfirmed) == (WorkerPhase.MISSING, True)


async def test_a_pod_that_is_watched_is_looked_at_again_when_the_watch_says_that_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is a call; many removals at once would leave none of the API's rate for launches."""
    monkeypatch.setattr(removal, "WATCHED_POLL_SECONDS", (600.0, 600.0))
    cluster = OnePod(ENDED, looks=0, takes=0.5)
    async with watched(cluster, tmp_path) as provider:
        assert await provider.destroy(HANDLE)
    assert cluster.asked == 2


async def test_a_pod_whose_end_the_watch_does_not_tell_is_found_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W09: a watch may stall."""
    monkeypatch.setattr(removal, "WATCHED_POLL_SECONDS", (0.05, 0.05))
    monkeypatch.setattr(ends.Ends, "went", lambda *_: None)
    async with watched(OnePod(ENDED, takes=0.2), tmp_path) as provider:
        assert await provider.destroy(HANDLE)


class Cut(OnePod):
    """A cluster whose watches break when the pod is deleted, and whose lists don't answer from then on."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        if "watch" in request.query:
            self.watched.set()
            response = web.StreamResponse()
            await response.prepare(request)
            await self.gone.wait()
            assert request.transport is not None
            request.transport.close()
            return response
        if request.path.endswith("/pods") and self.gone.is_set():
            return web.json_response({"message": "not now"}, status=500)
        return await super().answer(request)


def test_looks_at_a_pod_of_a_long_grace_are_never_further_apart() -> None:
    """W28: a day of them, too."""
    first, most = removal.POLL_SECONDS
    assert removal._until_next(0, (first, most)) == first
    assert removal._until_next(200_000, (first, most)) == most


async def test_while_a_watch_is_broken_a_pod_is_looked_at_as_often_as_where_nobody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W08, W09: what it says last is seen before it has gone; else its worker would be out of sight for minutes."""
    monkeypatch.setattr(removal, "WATCHED_POLL_SECONDS", (600.0, 600.0))
    async with watched(Cut(ENDED, looks=1), tmp_path) as provider:
        assert await provider.destroy(HANDLE)


async def test_a_pod_whose_node_is_not_there_any_more_says_so(tmp_path: Path) -> None:
    """W08: until the cluster takes the pod away, that is all there is to be known of it."""
    async with entered(OnePod(RUNNING), tmp_path) as provider:
        found = await provider.describe(HANDLE)
        assert (found.phase, found.message) == (WorkerPhase.RUNNING, "node node1 is not there any more")


async def test_a_worker_that_nobody_has_seen_end_counts_as_gone_in_the_end(tmp_path: Path) -> None:
    """W42: by then it has ended by itself; it takes up no room for ever."""
    async with watched(OnePod(RUNNING), tmp_path, lost_node_timeout=1e-9) as provider:
        assert await provider.destroy(HANDLE)


async def test_where_nobody_watches_a_pod_that_has_gone_has_ended(tmp_path: Path) -> None:
    """As far as anybody can tell."""
    async with entered(OnePod(ENDED, looks=0), tmp_path) as provider:
        assert await provider.destroy(HANDLE)


@pytest.mark.parametrize("last", [ENDED, RUNNING])
async def test_a_pod_that_somebody_else_has_deleted_is_told_as_it_went(tmp_path: Path, last: dict[str, Any]) -> None:
    """W08, W14: by the watch, by `describe` and by `destroy`."""
    cluster = OnePod(last, looks=0)
    async with entered(cluster, tmp_path) as provider:
        cluster.gone.set()
        async with contextlib.aclosing(provider.watch("installation")) as watching:  # type: ignore[type-var]  # it is one
            told = await anext(watching)
            assert told.unconfirmed is (last is RUNNING)
            found = await provider.describe(HANDLE)
            assert (found.phase, found.unconfirmed) == (WorkerPhase.MISSING, last is RUNNING)
            assert await provider.destroy(HANDLE) is (last is ENDED)


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ([{"type": "Ready", "status": "True"}], "runs on node node1"),
        ([{"type": "Ready", "status": "Unknown", "message": "no word"}], "node node1 is not ready: no word"),
        (
            [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
            "node node1 is not ready: KubeletNotReady",
        ),
        ([], "node node1 is not ready: nothing is known of it"),
        (None, "runs on node node1"),
    ],
)
async def test_a_pod_that_says_that_it_runs_on_a_lost_node_is_told_of_as_that(
    tmp_path: Path, conditions: list[dict[str, str]] | None, says: str
) -> None:
    """W08: it says so for minutes; that is not its end: its worker may be heard. Who may not look is told less."""
    cluster = OnePod(RUNNING)

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/api/v1/nodes/node1":
            return await cluster.answer(request)
        if conditions is None:
            return web.json_response({"message": "you may not"}, status=403)
        return web.json_response({"status": {"conditions": conditions}})

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_address="10.0.0.1:50052", ensure=False)
        async with KubernetesProvider(config=config) as provider:
            found = await provider.describe(HANDLE)
    assert (found.phase, found.message) == (WorkerPhase.RUNNING, says)


@pytest.mark.parametrize(
    ("ready", "phase", "unconfirmed"),
    [
        ("True", "Running", False),
        ("Unknown", "Running", True),
        ("Unknown", "Pending", True),
        (None, "Running", True),
        (None, "Succeeded", False),
    ],
)
async def test_a_worker_that_is_being_removed_is_out_of_sight_unless_its_node_is_known_to_be_ready(
    tmp_path: Path, ready: str | None, phase: str, *, unconfirmed: bool
) -> None:
    """W08, W14: a pod of a lost node ends for ever; where nodes may not be looked at, any may be lost."""
    pod = OnePod(RUNNING).pod(RUNNING)
    pod["status"] = {"phase": phase}

    async def answer(request: web.Request) -> web.StreamResponse:
        if "/nodes/" not in request.path:
            return web.json_response(pod)
        if ready is None:
            return web.json_response({"message": "you may not"}, status=403)
        return web.json_response({"status": {"conditions": [{"type": "Ready", "status": ready}]}})

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_address="10.0.0.1:50052", ensure=False)
        async with KubernetesProvider(config=config) as provider:
            assert not (await provider.describe(HANDLE)).unconfirmed
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            assert (await provider.describe(HANDLE)).unconfirmed is unconfirmed
