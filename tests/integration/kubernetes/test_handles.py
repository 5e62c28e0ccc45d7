"""What names a worker on a cluster: from whatever configuration, and however long its names are."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from hodei_faults.cluster import PATIENCE, nothing_left, path_of, remove, workers_of
from hodei_faults.cluster import until as until_so
from hodei_providers.contract import WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, destroyed, make_request, until


@pytest.fixture
async def another(api: Any, namespace: str) -> AsyncIterator[str]:
    """Return the name of another namespace, which goes in the end."""
    yield f"{namespace}-b"
    await remove(api, f"/api/v1/namespaces/{namespace}-b")


async def test_a_worker_is_removed_from_the_namespace_that_its_handle_names(
    api: Any, played: KubernetesConfig, another: str
) -> None:
    """W42: another one is configured since; that nothing is found there does not mean that the worker is gone."""
    async with KubernetesProvider(config=played) as before:
        handle = await before.launch(make_request())
    async with KubernetesProvider(config=dataclasses.replace(played, namespace=another)) as after:
        assert (await after.describe(handle)).phase is not WorkerPhase.MISSING
        await destroyed(after, handle)
    assert await workers_of(api, played.namespace) == []
    await nothing_left(api, played.namespace)


async def test_two_providers_of_one_namespace_have_a_pod_each(api: Any, played: KubernetesConfig) -> None:
    """W12: neither lists the other's; one that doesn't say whose it is belongs to both, and is not lost."""
    async with KubernetesProvider("east", config=played) as east, KubernetesProvider("west", config=played) as west:
        here, there = await east.launch(make_request()), await west.launch(make_request())
        for provider, handle in ((east, here), (west, there)):
            assert [each.worker_id for each in await provider.list(INSTALLATION)] == [handle.worker_id]
        path = f"/api/v1/namespaces/{played.namespace}/pods/{there.data['pod']}"
        await api.merge(path, {"metadata": {"annotations": {"hodei.io/provider-id": None}}})
        both = {here.worker_id, there.worker_id}
        assert {each.worker_id for each in await east.list(INSTALLATION)} == both
        for handle in await east.list(INSTALLATION):
            await destroyed(east, handle)
        assert await west.list(INSTALLATION) == []
    await nothing_left(api, played.namespace)


def copy_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `kubectl get -o yaml` and another name make of a pod; its container fails at once."""
    (container,) = pod["spec"]["containers"]
    spec = {key: value for key, value in pod["spec"].items() if key not in {"nodeName", "initContainers"}}
    metadata = {key: pod["metadata"][key] for key in ("labels", "annotations")} | {"name": "a-copy"}
    fails = {key: value for key, value in container.items() if key != "args"} | {"command": ["false"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec | {"containers": [fails]}}


async def test_neither_a_label_that_somebody_edits_nor_a_copy_of_its_pod_ends_a_worker(
    api: Any, played: KubernetesConfig
) -> None:
    """W08, W12: a pod is its worker's by its name; the watch goes on, and leaves alone what is no worker's."""
    async with KubernetesProvider(config=played) as provider:
        handle = await provider.launch(make_request())
        await until(provider, handle, WorkerPhase.RUNNING)
        watching = asyncio.ensure_future(anext(provider.watch(INSTALLATION)))
        pods = f"/api/v1/namespaces/{played.namespace}/pods"
        copy = path_of(await api.create(pods, copy_of(await api.get(f"{pods}/{handle.data['pod']}"))))

        async def has_failed() -> bool:
            return bool((await api.get(copy))["status"].get("phase") == "Failed")

        await until_so(has_failed)
        for label in (None, "another"):
            await api.merge(f"{pods}/{handle.data['pod']}", {"metadata": {"labels": {"hodei.io/worker-id": label}}})
            assert await provider.list(INSTALLATION) == [handle]
        await api.delete(f"{pods}/{handle.data['pod']}", grace=1)
        async with asyncio.timeout(PATIENCE):
            assert (await watching).handle == handle
        await destroyed(provider, handle)
        assert (await api.get(copy))["status"]["phase"] == "Failed"


async def test_names_of_any_length_are_taken_by_the_cluster_and_come_back_whole(
    api: Any, played: KubernetesConfig
) -> None:
    """W27: of the worker, the installation, the tenant and the job; two that begin alike are two."""
    installation = f"{INSTALLATION}-{'of-a-very-long-name-' * 10}"
    labels = {"tenant": "Tenänt with/spaces " * 9, "job": "j" * 90, "attempt": "1", "attempt-uid": "u" * 70}
    ids = [f"w{'long' * 25}{end}" for end in ("a", "b")]
    async with KubernetesProvider(config=played) as provider:
        handles = [await provider.launch(make_request(installation, worker_id=each, labels=labels)) for each in ids]
        assert sorted(each.worker_id for each in await provider.list(installation)) == ids
        for handle in handles:
            await until(provider, handle, WorkerPhase.RUNNING)
        for pod in await workers_of(api, played.namespace):
            assert pod["metadata"]["annotations"]["hodei.io/tenant"] == labels["tenant"]
        await asyncio.gather(*(destroyed(provider, handle) for handle in handles))
        assert await provider.list(installation) == []
    await nothing_left(api, played.namespace)
