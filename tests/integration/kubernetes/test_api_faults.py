"""Faults of the API that no cluster shows on demand: a proxy before the real one makes them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.api_proxy import ApiProxy, Fault
from hodei_faults.cluster import PATIENCE, workers_of
from hodei_faults.cluster import until as until_so
from hodei_providers.contract import (
    Handle,
    LaunchRejectedError,
    ProviderUnavailableError,
    QuotaExceededError,
    WorkerPhase,
)
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request, until


@pytest.fixture
async def provider(
    proxy: ApiProxy, played: KubernetesConfig, orders: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[KubernetesProvider]:
    """Return a provider that reaches the cluster through the proxy; a test's parameter holds options of its own."""
    file = tmp_path / "kubeconfig"
    file.write_text(proxy.kubeconfig())
    options = getattr(request, "param", {})
    config = dataclasses.replace(played, kubeconfig=str(file), server_address=f"{orders.host}:1", **options)
    async with KubernetesProvider(config=config) as entered:
        yield entered
        proxy.faults.clear()
        for handle in await entered.list(INSTALLATION):
            await destroyed(entered, handle)


def on(verb: str, kind: str) -> Any:
    """Return what applies to a verb on a kind, watches excepted."""
    return lambda method, path, query: method == verb and path.endswith(kind) and "watch" not in query


def on_watch(_: str, __: str, query: Any) -> bool:
    """Apply to watches."""
    return "watch" in query


def times_of(proxy: ApiProxy, verb: str, kind: str) -> list[float]:
    """Return when each call of a verb on a kind came."""
    return [
        at for (method, path), at in zip(proxy.calls, proxy.came, strict=True) if method == verb and path.endswith(kind)
    ]


async def test_an_answer_that_was_lost_makes_no_second_pod(proxy: ApiProxy, provider: KubernetesProvider) -> None:
    """W13: the API says 500 after the create went through; the same call again finds what is there."""
    proxy.faults += [Fault(on("POST", "/secrets"), after=True), Fault(on("POST", "/pods"), after=True)]
    request = make_request()
    handle = await provider.launch(request)
    assert [each.worker_id for each in await provider.list(INSTALLATION)] == [request.worker_id]
    assert [call[0] for call in proxy.calls if call[1].endswith("/pods")].count("POST") == 2
    await until(provider, handle, WorkerPhase.RUNNING)


@pytest.mark.parametrize("provider", [{"quota": {"pods": "1"}}], indirect=True, ids=["one pod"])
async def test_a_pod_whose_answer_was_lost_keeps_its_secret_though_the_quota_is_full_of_it(
    proxy: ApiProxy, provider: KubernetesProvider, api: Any, played: KubernetesConfig
) -> None:
    """W13: the same call again is refused for the quota before its name is looked at; what is there is found."""
    space = f"/api/v1/namespaces/{played.namespace}"

    async def quota_is_counted() -> bool:
        (quota,) = (await api.get(f"{space}/resourcequotas"))["items"] or [{}]
        return "hard" in quota.get("status", {}) and (await provider.health()).healthy

    await until_so(quota_is_counted)
    before = len(times_of(proxy, "POST", "/pods"))
    proxy.faults.append(Fault(on("POST", "/pods"), after=True))
    request = make_request()
    handle = await provider.launch(request)
    assert len(times_of(proxy, "POST", "/pods")) == before + 2
    (secret,) = await workers_of(api, played.namespace, "secrets")
    assert secret["metadata"]["ownerReferences"][0]["name"] == handle.data["pod"]
    with pytest.raises(QuotaExceededError, match="exceeded quota"):
        await provider.launch(make_request())
    assert await workers_of(api, played.namespace, "secrets") == [secret]
    await until(provider, handle, WorkerPhase.RUNNING)


async def test_a_pod_that_is_made_again_owns_its_secret_though_its_answer_was_lost_and_the_quota_is_full_of_it(
    proxy: ApiProxy, provider: KubernetesProvider, api: Any, played: KubernetesConfig
) -> None:
    """W13: as one does that is made for the first time."""
    handle = await provider.launch(make_request())
    (before,) = await workers_of(api, played.namespace)
    full = "exceeded quota: hodei, requested: pods=1, used: pods=1, limited: pods=1"
    body = {"kind": "Status", "reason": "Forbidden", "code": 403, "message": f'pods "w" is forbidden: {full}'}
    refused = Fault(on("POST", "/pods"), status=403, body=body)
    proxy.faults += [Fault(on("POST", "/pods"), after=True), refused]
    given_up: list[str] = []
    provider._launches.replace(before, lambda: given_up.append(handle.worker_id))
    await provider._launches.settle(handle.worker_id)
    assert not refused.times
    assert not given_up
    (pod,) = await workers_of(api, played.namespace)
    assert pod["metadata"]["uid"] != before["metadata"]["uid"]
    (secret,) = await workers_of(api, played.namespace, "secrets")
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [pod["metadata"]["uid"]]
    await until(provider, handle, WorkerPhase.RUNNING)


async def test_a_launch_that_never_was_answered_can_be_found_and_destroyed(
    proxy: ApiProxy, provider: KubernetesProvider
) -> None:
    """W13, W43: the error is about the answer only; the name derives from the worker's id."""
    proxy.faults.append(Fault(on("POST", "/pods"), times=100, after=True, status=503))
    request = make_request()
    with pytest.raises(ProviderUnavailableError):
        await provider.launch(request)
    proxy.faults.clear()
    assert (await provider.describe(Handle(request.worker_id))).phase is not WorkerPhase.MISSING
    await destroyed(provider, Handle(request.worker_id))


async def test_a_worker_that_is_removed_while_it_is_launched_is_not_there_afterwards(
    proxy: ApiProxy, provider: KubernetesProvider
) -> None:
    """W16: its pod is about to be made; who removes it waits for that, and says that it is gone only then."""
    go = asyncio.Event()
    proxy.faults.append(Fault(on("POST", "/pods"), hold=go))
    request = make_request()
    launching = asyncio.ensure_future(provider.launch(request))
    async with asyncio.timeout(PATIENCE):
        while not times_of(proxy, "POST", "/pods"):
            await asyncio.sleep(0.02)
    removing = asyncio.ensure_future(provider.destroy(Handle(request.worker_id)))
    # Many more calls than a removal needs that waits for nobody.
    for _ in range(20):
        assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.PENDING
    assert not removing.done()
    go.set()
    await launching
    if not await removing:
        await destroyed(provider, Handle(request.worker_id))
    assert await provider.list(INSTALLATION) == []


async def test_an_api_that_is_busy_is_asked_again_when_it_says_so(
    proxy: ApiProxy, provider: KubernetesProvider
) -> None:
    """W04: 429 with Retry-After, and an answer that does not come."""
    busy = {"Retry-After": "1"}
    proxy.faults += [
        Fault(on("POST", "/pods"), times=2, status=429, headers=busy),
        Fault(on("POST", "/pods"), hang_up=True),
    ]
    handle = await provider.launch(make_request())
    await until(provider, handle, WorkerPhase.RUNNING)
    first, second, third, _ = times_of(proxy, "POST", "/pods")
    assert min(second - first, third - second) >= 1.0


async def test_an_api_that_asks_for_much_patience_is_left_alone(proxy: ApiProxy, provider: KubernetesProvider) -> None:
    """W04, W28: no room now; nobody waits inside the call, and nobody asks again meanwhile. Nothing is left of it."""
    proxy.faults.append(Fault(on("POST", "/pods"), times=100, status=429, headers={"Retry-After": "60"}))
    request = make_request()
    with pytest.raises(QuotaExceededError, match="a fault"):
        await provider.launch(request)
    with pytest.raises(QuotaExceededError, match="left alone for another"):
        await provider.launch(make_request())
    assert len(times_of(proxy, "POST", "/pods")) == 1
    proxy.faults.clear()
    assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.MISSING
    await destroyed(provider, Handle(request.worker_id))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_api_that_fails_for_a_moment_is_asked_again(
    proxy: ApiProxy, provider: KubernetesProvider, status: int
) -> None:
    """W04, W13: whatever the call: making, looking, listing, removing; nothing is doubled and nothing lost."""
    proxy.faults += [Fault(on(verb, ""), times=2, status=status) for verb in ("POST", "GET", "PATCH", "DELETE")]
    request = make_request()
    handle = await provider.launch(request)
    assert [each.worker_id for each in await provider.list(INSTALLATION)] == [request.worker_id]
    assert (await provider.describe(handle)).phase is not WorkerPhase.MISSING
    await destroyed(provider, handle)
    assert await provider.list(INSTALLATION) == []
    assert not any(fault.times for fault in proxy.faults)


async def test_admission_that_is_not_ready_yet_is_asked_again(proxy: ApiProxy, provider: KubernetesProvider) -> None:
    """W04: its 403 says nothing of the pod; the API server that has just started answers so."""
    message = 'pods "hodei-worker-w1" is forbidden: not yet ready to handle request'
    body = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message}
    proxy.faults.append(Fault(on("POST", "/pods"), status=403, body=body))
    handle = await provider.launch(make_request())
    assert len(times_of(proxy, "POST", "/pods")) == 2
    assert (await provider.describe(handle)).phase is not WorkerPhase.MISSING


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_what_the_api_never_takes_is_refused_at_once(
    proxy: ApiProxy, provider: KubernetesProvider, status: int
) -> None:
    """W04: with its words, after one call; the secret that was made for it goes."""
    body = {"kind": "Status", "message": "pods are not for you"}
    proxy.faults.append(Fault(on("POST", "/pods"), times=100, status=status, body=body))
    with pytest.raises(LaunchRejectedError, match="pods are not for you"):
        await provider.launch(make_request())
    assert len(times_of(proxy, "POST", "/pods")) == 1
    assert len(times_of(proxy, "POST", "/secrets")) == 1
    assert [call for call in proxy.calls if call[0] == "DELETE" and "/secrets/" in call[1]]


async def test_a_watch_that_is_too_old_begins_anew(proxy: ApiProxy, provider: KubernetesProvider, orders: Any) -> None:
    """W10: 410 as an answer, and as an event of a watch that had begun well."""
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    proxy.faults += [
        Fault(on_watch, status=410, body=expired),
        Fault(on_watch, status=200, body={"type": "ERROR", "object": expired}),
        Fault(on_watch, status=500),
    ]
    request = make_request()
    await provider.launch(request)
    seen = asyncio.ensure_future(anext(provider.watch(INSTALLATION)))
    async with asyncio.timeout(PATIENCE):
        # It ends when there has been all of this: a list would tell of it, too.
        while any(fault.times for fault in proxy.faults) and not seen.done():
            await asyncio.sleep(0.05)
        orders.code(request.worker_id).set_result(4)
        description = await seen
    assert (description.phase, description.exit_code) == (WorkerPhase.EXITED, 4)


async def test_one_watch_tells_of_all_pods(proxy: ApiProxy, provider: KubernetesProvider, orders: Any) -> None:
    """W28: never one of each; the API serves many who watch."""
    requests = [make_request() for _ in range(3)]
    watching, ended = provider.watch(INSTALLATION), set()
    for request in requests:
        await provider.launch(request)
    async with asyncio.timeout(PATIENCE):
        for request in requests:
            orders.code(request.worker_id).set_result(0)
            ended.add((await anext(watching)).handle.worker_id)
            # None while a list tells, between two of them.
            assert proxy.watches <= 1
    assert ended == {request.worker_id for request in requests}


async def test_a_pod_that_goes_while_the_watch_is_broken_is_missed_by_nobody(
    proxy: ApiProxy, provider: KubernetesProvider, api: Any, played: KubernetesConfig
) -> None:
    """W08, W09: the API is away for a while, and the pod with it when it comes back: the full list tells."""
    handle = await provider.launch(make_request())
    await until(provider, handle, WorkerPhase.RUNNING)
    watching = provider.watch(INSTALLATION)
    seen = asyncio.ensure_future(anext(watching))
    async with asyncio.timeout(PATIENCE):
        while not proxy.watches:
            await asyncio.sleep(0.05)
    away = Fault(lambda *_: True, times=1_000_000, hang_up=True)
    proxy.faults.append(away)
    proxy.cut()
    path = f"/api/v1/namespaces/{played.namespace}/pods/{handle.data['pod']}"
    await api.delete(path, grace=1)
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"/api/v1/namespaces/{played.namespace}/pods"))["items"]:
            await asyncio.sleep(0.1)
    away.times = 0
    async with asyncio.timeout(PATIENCE):
        description = await seen
    assert (description.handle.worker_id, description.phase) == (handle.worker_id, WorkerPhase.MISSING)
