"""The same job on two real engines: it goes where what was measured of them says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import docker
from hodei_faults.needs import engine_socket
from hodei_faults.proxy import FaultyProxy
from hodei_faults.starts import estimates_agree, inputs
from hodei_providers.architecture import architecture_names
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
GIB = 1 << 30


@pytest.fixture
async def proxy() -> AsyncIterator[FaultyProxy]:
    """Return what stands before the engine."""
    async with FaultyProxy(path=engine_socket()) as running:
        yield running


async def test_each_strategy_places_the_same_job_where_the_engines_say(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W36: by starts that were measured on both, as their workers' history says, by what they have left, by prices."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_WORKER_HOUR", "5")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "2")
    settings = make_settings(providers="process,docker")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        declared = {name: (each.start_seconds, each.start_samples) for name, each in (await inputs(client)).items()}
        assert declared == {"process": (0.3, 0), "docker": (1.0, 0)}
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
            read = {each.provider: each.inputs for each in decision.candidates}
            assert all(each.start_samples >= 1 and each.start_seconds > 0 for each in read.values())
            # Which one starts the fastest is up to the machine, and to what else it does.
            assert decision.provider == (name or min(read, key=lambda each: read[each].start_seconds))
        assert sum((await estimates_agree(client, settings.data_dir)).values()) == 5


async def test_starts_are_measured_by_image_and_the_next_server_knows_them(make_settings: MakeSettings) -> None:
    """What one image takes says nothing of another: of that one it is what was declared."""
    settings = make_settings()
    images = ("", "busybox:stable", "debian:stable-slim")
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        for image in images[:2]:
            job = await client.submit(wire.JobSpec(argv=["true"], image=image))
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        before = [(await inputs(client, image))["docker"] for image in images]
        assert await estimates_agree(client, settings.data_dir, images) == {("docker", each): 1 for each in images[:2]}
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        after = [(await inputs(client, image))["docker"] for image in images]
        assert [each.start_samples for each in after] == [1, 1, 0]
        assert [each.start_seconds for each in after] == pytest.approx([each.start_seconds for each in before])
        assert after[2].start_seconds == 1.0


async def test_a_job_runs_in_its_region_and_on_its_architecture_only(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W38: the region is what a setting says, the architecture what the engine says of itself."""
    monkeypatch.setenv("HODEI_DOCKER_REGIONS", "eu-west")
    own = architecture_names(json.loads(docker("info", "--format", "{{json .Architecture}}")))[0]
    settings = make_settings(providers="process,docker")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(wire.JobSpec(argv=["uname", "-m"], region="eu-west", architecture=own))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        (decision,) = (await client.explain(job)).decisions
        assert (decision.provider, decision.candidates[1].reason) == ("docker", "region: it is not in eu-west")
        printed = [
            event.data async for event in client.logs(job) if isinstance(event, Chunk) and event.stream == STDOUT
        ]
        assert own in architecture_names(b"".join(printed).decode().strip())
        plan = await client.plan(wire.JobSpec(argv=["true"], providers=["docker"], architecture="s390x"))
        docker_verdict = next(each for each in plan.candidates if each.provider == "docker")
        assert (docker_verdict.eligible, docker_verdict.reason.startswith("architecture: it has ")) == (False, True)


async def test_an_attempt_costs_what_it_asked_for_as_long_as_it_ran(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for it whether it uses it or not; what it asks nothing of is paid as it was used."""
    monkeypatch.setenv("HODEI_PROVIDER_DOCKER_PRICE_CPU_HOUR", "3600000")
    monkeypatch.setenv("HODEI_PROVIDER_DOCKER_PRICE_GIB_HOUR", "7200000")
    settings = make_settings()
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for asked in (wire.Resources(cpu_millis=500, memory_bytes=256 << 20), wire.Resources(cpu_millis=500)):
            job = await client.submit(wire.JobSpec(argv=["sleep", "1"], resources=asked))
            outcome = await client.wait(job)
            (attempt,) = (await client.get(job)).attempts
            (decision,) = (await client.explain(job)).decisions
            seconds = (attempt.end_time.ToNanoseconds() - attempt.start_time.ToNanoseconds()) / 1e9
            gibs = (asked.memory_bytes or outcome.peak_memory_bytes) / GIB
            assert seconds > 0
            assert gibs > 0
            assert decision.cost == attempt.cost == pytest.approx((500 + 2000 * gibs) * seconds, rel=1e-6)


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
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:

        async def becomes(worse: str, better: str) -> None:
            """Wait until one has been so much worse that a slow answer of the other's doesn't hide it."""
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = {each.provider: each.inputs.health for each in (await client.plan(spec)).candidates}
                    if found[worse] < found[better] - 0.1:
                        return
                    await asyncio.sleep(0.05)

        async def goes_to(provider: str) -> None:
            """See that both could take the job, and where it goes."""
            async with asyncio.timeout(PATIENCE):
                while not all(each.room for each in (await client.plan(spec)).candidates):
                    await asyncio.sleep(0.05)
            job = await client.submit(spec)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (decision,) = (await client.explain(job)).decisions
            assert decision.provider == provider
            assert all(each.room and each.score == each.inputs.health for each in decision.candidates)
            (attempt,) = (await client.get(job)).attempts
            assert attempt.provider == provider

        for _ in range(2):
            failing = await client.submit(["true"], providers=["process"])
            assert (await client.wait(failing)).cause == wire.CAUSE_UNSCHEDULABLE
        await becomes("process", "docker")
        await goes_to("docker")

        command.write_text(f"#!/bin/sh\nexec {sys.executable} -m hodei_worker\n")
        command.chmod(0o755)
        proxy.cut()
        await becomes("docker", "process")
        proxy.heal()
        await goes_to("process")
