"""Workers that end before anybody has heard of them: what they printed, and the cluster's events, are kept."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults import cluster
from hodei_faults.cluster import output, pod_of
from hodei_providers.contract import WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.diagnosis import read_output
from hodei_providers.testing import INSTALLATION, destroyed, make_request, until
from hodei_server.app import Server
from hodei_server.work.attempts import Attempts
from hodei_server.work.live import LiveAttempt

NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


@pytest.fixture
def settings_of_players(make_settings: Callable[..., Any], played: KubernetesConfig) -> Callable[..., Any]:
    """Return what makes settings for a server whose pods only play workers."""
    volumes, mounts = json.dumps(list(played.volumes)), json.dumps(list(played.volume_mounts))

    def make(**overrides: str) -> Any:
        return make_settings(worker_image=played.worker_image, VOLUMES=volumes, VOLUME_MOUNTS=mounts, **overrides)

    return make


async def test_a_worker_that_ends_before_it_connects_leaves_its_words_and_events_in_the_log(
    settings_of_players: Callable[..., Any], api: Any, namespace: str, orders: Any
) -> None:
    """L17: its exit code, its output, and what the cluster has noted of its pod."""
    async with (
        Server(settings_of_players(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"], retry=NEVER_AGAIN)
        pod = await pod_of(api, namespace, job)
        orders.code(pod["metadata"]["labels"]["hodei.io/worker-id"]).set_result(3)
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_WORKER_LOST, outcome
        said = await output(client, job)
        assert "ended with code 3" in said
        assert "the last words" in said.splitlines()
        assert "event Scheduled: " in said


async def test_pods_that_do_not_reach_the_server_say_so_in_the_log_of_the_start_that_failed(
    make_settings: Callable[..., Any], api: Any, namespace: str, orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L17: nobody listens where they were sent; the server has never heard of them, and has what they print."""
    lose = Attempts._lose_late

    async def lose_once_it_has_spoken(self: Attempts, live: LiveAttempt) -> None:
        async def has_spoken() -> bool:
            return any("can't register yet" in line for line in await read_output(api, namespace, live.worker_id))

        # A pod of a busy cluster may start later than in any time that a test could wait for.
        await cluster.until(has_spoken)
        await lose(self, live)

    monkeypatch.setattr(Attempts, "_lose_late", lose_once_it_has_spoken)
    settings = make_settings(log_level="warn", SERVER_ADDRESS=f"{orders.host}:1", LISTEN=orders.host)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"], start_timeout=5, retry=NEVER_AGAIN)
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_START_TIMEOUT, outcome
        assert "can't register yet: " in await output(client, job)


async def has_failed(api: Any, namespace: str, job: str) -> None:
    """Wait for a job's pod to have failed."""

    async def failed() -> bool:
        return bool((await pod_of(api, namespace, job))["status"]["phase"] == "Failed")

    await cluster.until(failed)


@pytest.mark.parametrize("away", [False, True])
async def test_a_worker_that_runs_out_of_memory_before_it_connects_is_told_so(
    make_settings: Callable[..., Any], api: Any, played: KubernetesConfig, orders: Any, *, away: bool
) -> None:
    """W06, W11: its agent can't tell; the pod's status does, also to a server that was not there meanwhile."""
    order = f"wget -qO /dev/null http://{orders.host}:{orders.port}/$HODEI_WORKER_ID"
    script = {"hodei-worker": f"#!/bin/sh\n{order}\nexec tail /dev/zero\n"}
    hungry = {"kind": "ConfigMap", "metadata": {"name": "hungry"}, "data": script}
    await api.create(f"/api/v1/namespaces/{played.namespace}/configmaps", hungry)
    volumes = [{"name": "player", "configMap": {"name": "hungry", "defaultMode": 0o555}}]
    settings = make_settings(
        worker_image=played.worker_image,
        VOLUMES=json.dumps(volumes),
        VOLUME_MOUNTS=json.dumps(list(played.volume_mounts)),
    )
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"], resources=wire.Resources(memory_bytes=32 << 20), retry=NEVER_AGAIN)
        pod = await pod_of(api, played.namespace, job)
        code = orders.code(pod["metadata"]["labels"]["hodei.io/worker-id"])
        if not away:
            code.set_result(0)
            await client.wait(job)
    if away:
        code.set_result(0)
        await has_failed(api, played.namespace, job)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_OUT_OF_MEMORY, outcome
        assert "OOMKilled" in outcome.message


async def test_a_pod_that_ended_while_its_server_was_away_for_longer_than_its_time_has_its_words_in_the_log(
    settings_of_players: Callable[..., Any], api: Any, namespace: str, orders: Any
) -> None:
    """L17, W11: the next server removes it, and not before it has read what it said."""
    settings = settings_of_players(TTL_SECONDS_AFTER_FINISHED="0")
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"], retry=NEVER_AGAIN)
        pod = await pod_of(api, namespace, job)
    orders.code(pod["metadata"]["labels"]["hodei.io/worker-id"]).set_result(3)
    await has_failed(api, namespace, job)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        await client.wait(job)
        assert "the last words" in (await output(client, job)).splitlines()


async def test_an_ended_pod_is_removed_after_its_time_and_its_last_words_are_kept(
    played: KubernetesConfig, orders: Any
) -> None:
    """L17: by the provider itself, where nobody has removed it; whoever asks later is told all the same."""
    from hodei_providers.kubernetes.provider import KubernetesProvider  # noqa: PLC0415 - needs the SDK

    config = dataclasses.replace(played, ttl_seconds_after_finished=1, resync=2.0)
    async with KubernetesProvider(config=config) as provider:
        request = make_request()
        handle = await provider.launch(request)
        orders.code(request.worker_id).set_result(3)
        await until(provider, handle, WorkerPhase.EXITED)
        watching = asyncio.ensure_future(_hear(provider))
        await until(provider, handle, WorkerPhase.MISSING)
        watching.cancel()
        assert await provider.list(INSTALLATION) == []
        assert "the last words" in await provider.diagnose(handle)
        assert any(line.startswith("event Scheduled") for line in await provider.diagnose(handle))
        await destroyed(provider, handle)


async def _hear(provider: Any) -> None:
    async for _ in provider.watch(INSTALLATION):
        pass
