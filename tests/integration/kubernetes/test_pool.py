"""Pods that wait for jobs, by image and size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
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
