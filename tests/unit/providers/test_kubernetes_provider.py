"""The provider against an API that is played: whose pods it sees, and what it makes of its own disk's failures."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.contract import Handle, ProviderUnavailableError, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig, health
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.survey import Survey
from hodei_providers.testing import make_request

POD = {
    "hodei.io/managed": "true",
    "hodei.io/instance": "installation",
}


def pod(worker_id: str, phase: str, provider: str | None) -> dict[str, Any]:
    """Return a worker's pod as the API tells it; one that does not say whose it is where `provider` is None."""
    return {
        "metadata": {
            "name": f"hodei-worker-{worker_id}",
            "namespace": "space",
            "uid": f"uid-{worker_id}",
            "resourceVersion": "2",
            "labels": POD | {"hodei.io/worker-id": worker_id},
            "annotations": {} if provider is None else {"hodei.io/provider-id": provider},
        },
        "spec": {"containers": []},
        "status": {"phase": phase},
    }


PODS = [pod("w1", "Failed", "east"), pod("w2", "Failed", "west"), pod("w3", "Running", None)]
CHANGES = [
    {"type": "MODIFIED", "object": pod("w4", "Failed", "west")},
    {"type": "DELETED", "object": pod("w2", "Failed", "west")},
    {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "3"}}},
    {"type": "DELETED", "object": pod("w3", "Running", None)},
]


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[KubernetesConfig]:
    """Return the configuration of a cluster that has the pods above, and then tells of these changes."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/pods"):
            return web.json_response({"items": [], "metadata": {}})
        if "watch" not in request.query:
            return web.json_response({"items": PODS, "metadata": {"resourceVersion": "1"}})
        response = web.StreamResponse()
        await response.prepare(request)
        for change in CHANGES:
            await response.write(json.dumps(change).encode() + b"\n")
        await over.wait()
        return response

    async with playing(answer, tmp_path) as config:
        yield dataclasses.replace(config, namespace="space", server_address="10.0.0.1:50052", ensure=False)
        over.set()


async def test_each_lists_and_watches_its_own_pods_and_those_that_do_not_say_whose_they_are(
    config: KubernetesConfig,
) -> None:
    """W12: what another has made is neither told of, nor counted, nor removed by this one."""
    async with asyncio.timeout(30), KubernetesProvider("east", config=config) as provider:
        assert [each.worker_id for each in await provider.list("installation")] == ["w1", "w3"]
        told: list[tuple[str, WorkerPhase]] = []
        async with contextlib.aclosing(provider.watch("installation")) as watching:  # type: ignore[type-var]  # it is one
            while len(told) < 2:
                description = await anext(watching)
                told.append((description.handle.worker_id, description.phase))
    assert told == [("w1", WorkerPhase.EXITED), ("w3", WorkerPhase.MISSING)]


async def test_a_copy_of_a_workers_pod_is_told_of_once_and_is_no_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """W12: it has all the labels, and a name of its own."""
    copy = pod("w1", "Failed", None)
    copy["metadata"] |= {"name": "a-copy", "uid": "uid-copy"}
    lists = 0
    listed_again = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal lists
        if not request.path.endswith("/pods"):
            return web.json_response({"items": [], "metadata": {}})
        lists += 1
        if lists == 3:
            listed_again.set()
        return web.json_response({"items": [copy], "metadata": {"resourceVersion": "1"}})

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        config = dataclasses.replace(
            played, namespace="space", server_address="10.0.0.1:1", ensure=False, resync=0.01, api_rate=1000.0
        )
        async with KubernetesProvider(config=config) as provider:
            told = asyncio.ensure_future(anext(provider.watch("installation")))
            await listed_again.wait()
            assert not told.done()
            assert await provider.list("installation") == []
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
    assert [record.getMessage() for record in caplog.records if "a-copy" in record.getMessage()] == [
        "pod space/a-copy has the labels of a worker's pod and not the name: it is left alone"
    ]


@pytest.mark.parametrize("launched_here", [True, False])
async def test_a_copy_of_a_workers_pod_in_another_namespace_is_no_worker(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    launched_here: bool,  # noqa: FBT001
) -> None:
    """W12: it has the name, too; what becomes of it ends no job, whichever process has launched the worker."""
    real, copy = pod("w1", "Running", None), pod("w1", "Failed", None)
    for each, namespace in ((real, "of-acme"), (copy, "elsewhere")):
        each["metadata"] |= {"namespace": namespace, "uid": namespace}
        each["metadata"]["labels"]["hodei.io/tenant"] = "acme"
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/api/v1/pods":
            return web.json_response({"items": [], "metadata": {}})
        if "watch" not in request.query:
            return web.json_response({"items": [real, copy], "metadata": {"resourceVersion": "1"}})
        response = web.StreamResponse()
        await response.prepare(request)
        for each in (copy, real):
            await response.write(json.dumps({"type": "DELETED", "object": each}).encode() + b"\n")
        await over.wait()
        return response

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        own: dict[str, Any] = {"namespace": "home", "namespace_prefix": "of-", "server_address": "10.0.0.1:1"}
        config = dataclasses.replace(played, dynamic_namespaces=True, ensure=False, **own)
        async with KubernetesProvider(config=config) as provider:
            if launched_here:
                assert provider._spaces.of("w1", "acme") == "of-acme"
            assert [each.data["namespace"] for each in await provider.list("installation")] == ["of-acme"]
            async with contextlib.aclosing(provider.watch("installation")) as watching:  # type: ignore[type-var]  # it is one
                told = await anext(watching)
            assert (told.handle.data["namespace"], told.phase) == ("of-acme", WorkerPhase.MISSING)
        over.set()
    assert [record.getMessage() for record in caplog.records if "elsewhere" in record.getMessage()] == [
        "pod elsewhere/hodei-worker-w1 has the labels of a worker's pod and not the namespace: it is left alone"
    ]


async def test_an_ended_pod_that_cannot_be_removed_holds_up_no_news(tmp_path: Path) -> None:
    """W28: a webhook refuses its removal, or a right is missing; the watch tells of all pods, and tries again."""
    old = pod("w1", "Failed", None)
    end = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}
    old["status"]["containerStatuses"] = [{"name": "worker", "state": {"terminated": end}}]
    refused = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal refused
        if request.method == "DELETE":
            refused += 1
            return web.json_response({"message": 'admission webhook "keeps" denied the request: no'}, status=403)
        if request.path.endswith("/pods/hodei-worker-w1"):
            return web.json_response(old)
        items = [old, pod("w2", "Failed", None)] if request.path.endswith("/pods") else []
        return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_address="10.0.0.1:1", ensure=False)
        async with (
            KubernetesProvider(config=config) as provider,
            contextlib.aclosing(provider.watch("installation")) as watching,  # type: ignore[type-var]  # it is one
        ):
            assert [(await anext(watching)).handle.worker_id for _ in range(2)] == ["w1", "w2"]
    assert refused == 1


async def test_a_secret_that_was_left_in_a_tenants_namespace_goes_with_its_worker(tmp_path: Path) -> None:
    """W11, W42: the process before died between it and its pod, and the job is given up before it is seen to."""
    note = tmp_path / "unowned" / "hodei-worker-w1"
    note.parent.mkdir()
    note.write_text("hodei-tenant-acme/w1")
    removed: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            removed.append(request.path)
        if request.method == "GET" and request.path.endswith(("/pods", "/namespaces")):
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        return web.json_response({"message": "not found"}, status=404)

    async with asyncio.timeout(30), playing(answer, tmp_path) as played:
        config = dataclasses.replace(played, dynamic_namespaces=True, server_address="10.0.0.1:1", ensure=False)
        async with KubernetesProvider(config=config, data_dir=tmp_path) as provider:
            assert await provider.destroy(Handle("w1"))
    assert removed == ["/api/v1/namespaces/hodei-tenant-acme/secrets/hodei-worker-w1"]
    assert not note.exists()


async def test_a_disk_that_fails_a_launch_is_an_outage(config: KubernetesConfig, tmp_path: Path) -> None:
    """W28: the job waits and is tried again, by the name of what can't be read or written."""
    authority = tmp_path / "ca.pem"
    authority.write_text("an authority")
    trusting = dataclasses.replace(config, server_ca=str(authority))
    async with asyncio.timeout(30), KubernetesProvider(config=trusting, data_dir=tmp_path / "data") as provider:
        (tmp_path / "data" / "unowned").rmdir()
        with pytest.raises(ProviderUnavailableError, match="unowned/hodei-worker-w1 can't be written"):
            await provider.launch(make_request(worker_id="w1"))
        authority.unlink()
        with pytest.raises(ProviderUnavailableError, match="HODEI_K8S_SERVER_CA"):
            await provider.launch(make_request(worker_id="w1"))


async def test_upkeep_goes_on_after_a_failure_that_nobody_has_thought_of(
    config: KubernetesConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """W12: else what others have left would be there for ever, and nobody told."""
    looks: asyncio.Queue[None] = asyncio.Queue()

    async def look(_: Survey) -> None:
        looks.put_nowait(None)
        raise KeyError("status")

    monkeypatch.setattr(Survey, "look", look)
    hasty = dataclasses.replace(config, resync=0.01)
    async with asyncio.timeout(30), KubernetesProvider(config=hasty):
        for _ in range(2):
            await looks.get()
    assert "upkeep of provider kubernetes failed" in caplog.text
    assert "KeyError: 'status'" in caplog.text


async def test_health_tells_how_long_the_api_takes_and_calls_a_slow_one_degraded(
    config: KubernetesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healthy, as it answers."""
    async with asyncio.timeout(30), KubernetesProvider(config=config) as provider:
        found = await provider.health()
        assert re.search(r"listing pods and trying to make one took \d+\.\d\d s", found.details)
        assert (found.healthy, found.degraded) == (True, False)
        monkeypatch.setattr(health, "SLOW_SECONDS", -1.0)
        found = await provider.health()
        assert (found.healthy, found.degraded, found.message) == (True, True, "the API is slow to answer")
