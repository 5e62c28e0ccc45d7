"""Pods that are made again in their place, against an API that is played: of a node that is slow to let one go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.kubernetes import removal
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.images import Images
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.launches import Launches
from hodei_providers.kubernetes.unowned import Unowned

#: How often the pod of `slow` is asked to go before it goes.
ASKED = 5
POD: dict[str, Any] = {
    "metadata": {
        "name": "hodei-worker-w1",
        "namespace": "space",
        "uid": "u",
        "labels": {"hodei.io/worker-id": "w1"},
        "annotations": {},
    },
    "spec": {"nodeName": "node1", "containers": [], "securityContext": {"runAsNonRoot": True}},
}


class Node:
    """A cluster with the pod of worker w1, whose node does not let it go at once.

    :param lets_go: after so many times that the pod was deleted; never where None.
    :ivar deleted: how often that was.
    :ivar made: what was made in its place.
    """

    def __init__(self, lets_go: int | None) -> None:
        self.lets_go = lets_go
        self.deleted = 0
        self.asked = asyncio.Event()
        self.made: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        if request.method == "POST" and request.path.endswith("/pods"):
            self.made.append(json.loads(await request.read()))
            return web.json_response(self.made[-1] | {"metadata": POD["metadata"] | {"uid": "another"}})
        if "/pods/" not in request.path:
            return web.json_response({})
        if self.lets_go is not None and self.deleted >= self.lets_go:
            return web.json_response({"message": "there is none"}, status=404)
        if request.method == "DELETE":
            self.deleted += 1
            self.asked.set()
        return web.json_response(POD)


@contextlib.asynccontextmanager
async def launches_on(node: Node, folder: Path) -> AsyncIterator[Launches]:
    """Return what launches there."""
    async with playing(node.answer, folder) as config, Api(config) as api:
        yield Launches(api, Infrastructure(api, config), config, "cluster", unowned=Unowned(None), images=Images())


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no pod's end before it is asked to go again."""
    monkeypatch.setattr(removal, "WAIT_SECONDS", 0.0)


def noting() -> tuple[list[str], Callable[[], None]]:
    """Return a list, and what notes there that nothing was made."""
    given_up: list[str] = []
    return given_up, lambda: given_up.append("given up")


async def test_a_pod_whose_node_is_slow_to_let_it_go_is_made_again_once_it_has(tmp_path: Path) -> None:
    """W14: for as long as it takes; what the job was told is that it waits, and that costs it no attempt."""
    node, (given_up, give_up) = Node(ASKED), noting()
    async with asyncio.timeout(60), launches_on(node, tmp_path) as launches:
        launches.replace(POD, give_up)
        await launches.settle("w1")
    assert [each["spec"]["securityContext"]["runAsUser"] for each in node.made] == [1000]
    assert (node.deleted, given_up) == (ASKED, [])


async def test_a_worker_that_is_removed_waits_no_longer_for_a_pod_that_does_not_go(tmp_path: Path) -> None:
    """W16: that of a lost node; its removal goes on, and no pod is made in its place."""
    node, (given_up, give_up) = Node(None), noting()
    async with asyncio.timeout(60), launches_on(node, tmp_path) as launches:
        launches.replace(POD, give_up)
        await node.asked.wait()
        async with launches.removal("w1"):
            assert "w1" not in launches
    assert (node.made, given_up) == ([], ["given up"])


async def test_a_server_that_ends_waits_no_longer_for_a_pod_that_does_not_go(tmp_path: Path) -> None:
    """W26: the next one finds what there is."""
    node, (given_up, give_up) = Node(None), noting()
    async with asyncio.timeout(60), launches_on(node, tmp_path) as launches:
        launches.replace(POD, give_up)
        await node.asked.wait()
        await launches.close()
    assert (node.made, given_up) == ([], ["given up"])
