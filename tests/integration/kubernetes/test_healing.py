"""An image that heals just as its job is given up: the decision is held until the image is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults import FaultyProxy
from hodei_faults.cluster import PATIENCE, nothing_left, output, path_of, pod_of, running, until
from hodei_faults.logs import until_said
from hodei_providers.contract import Description, WorkerPhase
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_server.app import Server
from hodei_server.work.attempts import Attempts

MakeSettings = Callable[..., Any]
NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


class Held:
    """A decision that is about to be acted on.

    :ivar reached: it is held.
    :ivar go: set to let it go on.
    :ivar over: it was acted on.
    """

    def __init__(self) -> None:
        self.reached, self.go, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Hold it here."""
        self.reached.set()
        await self.go.wait()


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Hold what the provider's watch says of a worker that will never start."""
    held, watch = Held(), KubernetesProvider.watch

    async def holding(self: KubernetesProvider, installation_id: str) -> AsyncIterator[Description]:
        async for description in watch(self, installation_id):
            never = description.permanent and description.phase is WorkerPhase.PENDING
            if never:
                await held.wait()
            yield description
            if never:
                held.over.set()

    monkeypatch.setattr(KubernetesProvider, "watch", holding)
    return held


@pytest.fixture
def too_late(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Hold a start timeout that is over."""
    held, lose = Held(), Attempts._lose_late

    async def holding(self: Attempts, live: Any) -> None:
        await held.wait()
        await lose(self, live)

    monkeypatch.setattr(Attempts, "_lose_late", holding)
    return held


async def heal(api: Any, namespace: str, job: str) -> None:
    """Have a pod's image be one that is there, and wait for it to run."""
    pod = await pod_of(api, namespace, job)
    containers = [each | {"image": "busybox:stable"} for each in pod["spec"]["containers"]]
    await api.merge(path_of(pod), {"spec": {"containers": containers}})

    async def runs() -> bool:
        return bool((await api.get(path_of(pod)))["status"]["phase"] == "Running")

    await until(runs)


@pytest.mark.parametrize("connected", [True, False])
async def test_an_image_that_heals_as_its_grace_is_over_costs_the_job_nothing(
    make_settings: MakeSettings, api: Any, namespace: str, orders: Any, verdict: Held, *, connected: bool
) -> None:
    """W03: the watch has said "never", and its worker runs by the time that counts, heard of or not yet."""
    async with FaultyProxy(("127.0.0.1", 1), host=orders.host) as proxy:
        settings = make_settings(
            IMAGE_PULL_GRACE="3s", IMAGE_USER="1000", SERVER_ADDRESS=proxy.address, LISTEN=orders.host
        )
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            proxy.target = (orders.host, server.worker_address.port)
            if not connected:
                proxy.cut()
            script = ["sh", "-c", "echo hello; sleep 600"]
            job = await client.submit(script, image="registry.invalid/none:1", retry=NEVER_AGAIN)
            async with asyncio.timeout(PATIENCE):
                await verdict.reached.wait()
            await heal(api, namespace, job)
            if connected:
                await running(client, job)
            verdict.go.set()
            async with asyncio.timeout(PATIENCE):
                await verdict.over.wait()
            proxy.heal()

            async def begun() -> wire.Job | None:
                found = await client.get(job)
                return found if found.state != wire.JOB_STATE_STARTING else None

            assert (await until(begun)).state == wire.JOB_STATE_RUNNING
            await until_said(client, job, "hello", STDOUT)
            await client.cancel(job, force=True)
            assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
            assert len((await client.get(job)).attempts) == 1
            assert await output(client, job, STDOUT) == "hello\n"


async def test_an_image_that_heals_as_the_start_timeout_is_over_runs_nothing_that_is_then_killed(
    make_settings: MakeSettings, api: Any, namespace: str, too_late: Held
) -> None:
    """W03, W14: once it counts the worker gets no job, though it is there; the job is told why, and has not begun."""
    async with (
        Server(make_settings(IMAGE_PULL_GRACE="5m", IMAGE_USER="1000"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        script = ["sh", "-c", "echo hello; sleep 600"]
        spec = wire.JobSpec(argv=script, image="registry.invalid/none:1", retry=NEVER_AGAIN)
        spec.start_timeout.FromSeconds(5)
        job = await client.submit(spec)
        async with asyncio.timeout(PATIENCE):
            await too_late.reached.wait()
        await heal(api, namespace, job)
        (attempt,) = (await client.get(job)).attempts

        async def is_there() -> bool:
            return server.sessions.get(attempt.worker_id) is not None

        await until(is_there)
        too_late.go.set()
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_START_TIMEOUT), outcome
        (attempt,) = (await client.get(job)).attempts
        assert not attempt.HasField("start_time")
        assert await output(client, job, STDOUT) == ""
        assert (await client.receipt(job)).complete
        await nothing_left(api, namespace)
