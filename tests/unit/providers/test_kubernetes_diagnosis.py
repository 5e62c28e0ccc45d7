"""Why a pod ends, against an API that is played."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.contract import Handle
from hodei_providers.kubernetes import diagnosis
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_server.work import completion

HANDLE = Handle("w1", {"namespace": "space", "pod": "hodei-worker-w1"})
FULL = 'EmptyDir volume "hodei-tmp" exceeds the limit "16Mi"'


class Node:
    """A cluster whose kubelet evicts the pod of worker w1.

    :param looks: how often its event is looked for before it is there.
    :param metadata: what else there is of the pod's.
    :ivar over: set when nothing is asked any more.
    """

    def __init__(self, looks: int, metadata: dict[str, Any] | None = None) -> None:
        self.looks = looks
        self.over = asyncio.Event()
        self.metadata = {"name": "hodei-worker-w1", "namespace": "space", "uid": "u", **(metadata or {})}

    async def answer(self, request: web.Request) -> web.Response:
        """Play the API."""
        if request.path.endswith("/events"):
            self.looks -= 1
            return web.json_response({"items": [{"message": FULL}] if self.looks < 0 else []})
        if request.path.endswith("/pods/hodei-worker-w1"):
            status = {"phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {}}}]}
            return web.json_response(
                {"metadata": self.metadata, "spec": {"nodeName": "node1", "containers": []}, "status": status}
            )
        if "/nodes/" in request.path:
            return web.json_response({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        return web.json_response({"items": [], "metadata": {}})


async def why_ending(node: Node, folder: Path) -> str:
    """Return what the provider says of a pod of that node's."""
    async with asyncio.timeout(60), playing(node.answer, folder) as played:
        config = dataclasses.replace(played, namespace="space", server_address="10.0.0.1:1", ensure=False)
        async with KubernetesProvider(config=config) as provider:
            try:
                return await provider.why_ending(HANDLE)
            finally:
                node.over.set()


async def test_a_kubelet_that_is_slow_to_write_down_why_it_evicts_a_pod_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W08: it asks the pod to end about when it writes that down, and the one may come before the other."""
    monkeypatch.setattr(diagnosis, "LATE_SECONDS", 30.0)
    assert await why_ending(Node(looks=2), tmp_path) == f"evicted by its node: {FULL}"


@pytest.mark.parametrize(
    ("metadata", "late", "says"),
    [
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, 30.0, "runs on node node1, is being deleted"),
        ({}, 0.1, "runs on node node1"),
    ],
)
async def test_what_nobody_evicts_is_told_as_its_pod_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, Any], late: float, says: str
) -> None:
    """W08: at once where it was deleted, and in the end where nothing says why it ends."""
    monkeypatch.setattr(diagnosis, "LATE_SECONDS", late)
    assert await why_ending(Node(looks=1000, metadata=metadata), tmp_path) == says


async def test_an_api_that_is_slow_does_not_take_the_time_in_which_the_pod_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W08: whoever asks waits for no longer than that; the pod's own words are better than none."""
    assert diagnosis.LATE_SECONDS <= completion.WHY_SECONDS - 2.0
    monkeypatch.setattr(diagnosis, "LATE_SECONDS", 0.2)

    class Slow(Node):
        async def answer(self, request: web.Request) -> web.Response:
            if request.path.endswith("/events"):
                await self.over.wait()
            return await super().answer(request)

    assert await why_ending(Slow(looks=0), tmp_path) == "runs on node node1"
