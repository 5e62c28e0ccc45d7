"""Pods that wait for jobs, by image and size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE, nothing_left, until, workers_of
from hodei_server.app import Server

POOLS = '[{"image": "busybox:stable", "cpu": "300m", "memory": "64Mi", "min_ready": 1}]'


async def waiting(client: Client) -> str:
    """Wait for the one pod that is to wait; return its worker's id."""
    async with asyncio.timeout(PATIENCE):
        while True:
            ready = [worker.worker_id async for worker in client.workers() if worker.warm and worker.connected]
            if ready:
                (worker_id,) = ready
                return worker_id
            await asyncio.sleep(0.1)


async def test_a_job_takes_the_pod_that_was_made_for_its_like(
    make_settings: Callable[..., Any], api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its image and its size exactly; another job gets a pod of its own, and what was taken is replaced."""
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOLS", POOLS)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        ready = await waiting(client)
        pod = await api.get(f"/api/v1/namespaces/{namespace}/pods/hodei-worker-{ready}")
        (container,) = pod["spec"]["containers"]
        assert (container["image"], container["resources"]["limits"]["cpu"]) == ("busybox:stable", "300m")
        fitting = wire.Resources(cpu_millis=300, memory_bytes=64 << 20)
        other = await client.submit(["true"], resources=fitting)
        assert (await client.wait(other)).state == wire.JOB_STATE_SUCCEEDED
        job = await client.submit(["true"], resources=fitting, image="busybox:stable")
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert [(await client.get(each)).attempts[0].worker_id == ready for each in (other, job)] == [False, True]
        assert await waiting(client) != ready


async def warm(client: Client, count: int) -> None:
    """Wait for so many pods to wait, neither more nor fewer."""

    async def so_many() -> bool:
        found = [worker async for worker in client.workers() if worker.warm]
        return len(found) == count and all(worker.connected for worker in found)

    await until(so_many)


async def test_as_many_pods_wait_as_the_schedule_says(
    make_settings: Callable[..., Any], api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a window that is open all day, whatever the pool's own number is."""
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_SCHEDULE", "00:00-24:00=2")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 2)
        # Both are connected; that their pods run the kubelet may be yet to say.
        assert len(await workers_of(api, namespace)) == 2


async def test_as_many_pods_wait_as_jobs_took_of_late_and_none_when_that_is_past(
    make_settings: Callable[..., Any], api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From none to the most that there may be, and back; nothing is left of their pods."""
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY", "0")
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_MAX_READY", "2")
    # Longer than pods take to start on a busy cluster: those that wait must all be there before it is over.
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_FOLLOW", "90s")
    async with (
        Server(make_settings(worker_idle_timeout="0s"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        jobs = [await client.submit(["true"]) for _ in range(3)]
        for job in jobs:
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        await warm(client, 2)
        await warm(client, 0)
        await nothing_left(api, namespace)
