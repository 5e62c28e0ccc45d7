"""The same job on two real engines: it goes where what was measured of them says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.proxy import FaultyProxy
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
ENGINE = Path("/var/run/docker.sock")


@pytest.fixture
async def proxy() -> AsyncIterator[FaultyProxy]:
    """Return what stands before the engine."""
    if not ENGINE.exists():
        pytest.skip("the engine has no socket here")
    async with FaultyProxy(path=ENGINE) as running:
        yield running


async def test_each_strategy_places_the_same_job_where_the_engines_say(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By starts that were measured on both, by what they have left, by prices; W36: nothing else decides."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_WORKER_HOUR", "5")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "2")
    settings = make_settings(providers="process,docker")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for name in ("process", "docker"):
            await client.wait(await client.submit(["true"], providers=[name]))
        for strategy, name in (
            (wire.STRATEGY_FASTEST_STARTUP, ""),
            (wire.STRATEGY_LOWEST_COST, "docker"),
            (wire.STRATEGY_MOST_CAPACITY, "docker"),
        ):
            job = await client.submit(["true"], strategy=strategy)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (decision,) = (await client.explain(job)).decisions
            inputs = {each.provider: each.inputs for each in decision.candidates}
            assert all(each.start_samples >= 1 and each.start_seconds > 0 for each in inputs.values())
            # Which one starts the fastest is up to the machine, and to what else it does.
            assert decision.provider == (name or min(inputs, key=lambda each: inputs[each].start_seconds))


async def test_the_healthiest_takes_a_job_whichever_engine_has_failed(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy, tmp_path: Path
) -> None:
    """W28, W36: by launches that failed, then by pings; both have room by then, so it is the score that decides."""
    command = tmp_path / "worker"
    monkeypatch.setenv("HODEI_DOCKER_HOST", f"tcp://{proxy.address}")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", str(command))
    monkeypatch.setattr("hodei_server.loops.health.SECONDS", 0.2)
    settings = make_settings(providers="process,docker")
    spec = wire.JobSpec(argv=["true"], strategy=wire.STRATEGY_HEALTHIEST)
    retry = wire.RetryPolicy(max_infrastructure_retries=1)
    retry.initial_backoff.FromMilliseconds(1)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:

        async def becomes(worse: str, better: str) -> None:
            """Wait until one has been so much worse that a slow answer of the other's doesn't hide it."""
            async with asyncio.timeout(60):
                while True:
                    found = {each.provider: each.inputs.health for each in (await client.plan(spec)).candidates}
                    if found[worse] < found[better] - 0.1:
                        return
                    await asyncio.sleep(0.05)

        async def goes_to(provider: str) -> None:
            """See that both could take the job, and where it goes."""
            async with asyncio.timeout(60):
                while not all(each.room for each in (await client.plan(spec)).candidates):
                    await asyncio.sleep(0.05)
            job = await client.submit(spec)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (decision,) = (await client.explain(job)).decisions
            assert decision.provider == provider
            assert all(each.room and each.score == each.inputs.health for each in decision.candidates)
            (attempt,) = (await client.get(job)).attempts
            assert attempt.provider == provider

        failing = await client.submit(["true"], providers=["process"], retry=retry)
        assert (await client.wait(failing)).cause == wire.CAUSE_UNSCHEDULABLE
        await becomes("process", "docker")
        await goes_to("docker")

        command.write_text(f"#!/bin/sh\nexec {sys.executable} -m hodei_worker\n")
        command.chmod(0o755)
        proxy.cut()
        await becomes("docker", "process")
        proxy.heal()
        await goes_to("process")
