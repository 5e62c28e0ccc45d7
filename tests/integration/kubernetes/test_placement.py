"""The same job on three real engines: it goes where what was measured of them says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.needs import engine_socket, need_image
from hodei_faults.proxy import FaultyProxy
from hodei_faults.starts import estimates_agree, inputs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
ENGINES = {"process", "docker", "kubernetes"}
IMAGE = "busybox:stable"
HODEI = str(Path(sys.executable).with_name("hodei"))


@pytest.fixture(autouse=True)
def docker_engine(worker_image: str) -> None:
    """Need an engine beside the cluster, with the worker's image."""
    need_image(worker_image)


@pytest.mark.timeout(800)
async def test_each_strategy_places_the_same_job_where_three_engines_say(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W36: by starts that were measured on each, as their history says, by what each has left, by prices, labels."""
    monkeypatch.setenv("HODEI_DOCKER_ENABLED", "true")
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "3")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "2")
    # A pod is cheap, a container less so; where memory is paid, it is the other way round.
    for name, worker, gib in (("PROCESS", "9", "0"), ("DOCKER", "2", "0"), ("KUBERNETES", "1", "8")):
        monkeypatch.setenv(f"HODEI_PROVIDER_{name}_PRICE_WORKER_HOUR", worker)
        monkeypatch.setenv(f"HODEI_PROVIDER_{name}_PRICE_GIB_HOUR", gib)
    monkeypatch.setenv("HODEI_DOCKER_LABELS", "disk=fast")
    # So small that it is this setting, not others' pods, which says how many more there may be.
    settings = make_settings(providers="process,docker,kubernetes", MAX_PODS="20")
    asked = wire.Resources(memory_bytes=128 << 20)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        declared = {name: (each.start_seconds, each.start_samples) for name, each in (await inputs(client)).items()}
        assert declared == {"process": (0.3, 0), "docker": (1.0, 0), "kubernetes": (15.0, 0)}
        for name in sorted(ENGINES):
            for image in ("", IMAGE)[: 1 if name == "process" else 2]:
                job = await client.submit(wire.JobSpec(argv=["true"], providers=[name], image=image))
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        for fields, name in (
            ({"strategy": wire.STRATEGY_FASTEST_STARTUP}, ""),
            ({"strategy": wire.STRATEGY_LOWEST_COST}, "kubernetes"),
            ({"strategy": wire.STRATEGY_LOWEST_COST, "resources": asked}, "docker"),
            ({"strategy": wire.STRATEGY_MOST_CAPACITY}, "kubernetes"),
            ({"strategy": wire.STRATEGY_LABELS, "preferred_labels": {"disk": "fast"}}, "docker"),
            ({"strategy": wire.STRATEGY_FASTEST_STARTUP, "image": IMAGE}, ""),
        ):
            job = await client.submit(["sleep", "0.2"], **fields)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            told = await client.explain(job)
            (decision,) = told.decisions
            (attempt,) = (await client.get(job)).attempts
            read = {each.provider: each.inputs for each in decision.candidates}
            assert set(read) == ENGINES
            # Which one starts the fastest is up to the machine, and to what else it does.
            able = ENGINES - {"process"} if fields.get("image") else ENGINES
            expected = name or min(able, key=lambda each: read[each].start_seconds)
            assert (decision.provider, attempt.provider) == (expected, expected), told
            assert decision.cost == attempt.cost > 0
            assert all(read[each].start_samples >= 1 and read[each].start_seconds > 0 for each in able)
        starts = await estimates_agree(client, settings.data_dir, ("", IMAGE))
        assert sum(starts.values()) == 5 + 6
        # Processes run no image and promise no memory: never, in words; not by a lower score.
        plan = await client.plan(wire.JobSpec(argv=["true"], image="busybox:stable", resources=asked))
        never = {each.provider: each.reason for each in plan.candidates if not each.eligible}
        assert never == {"process": "image: it runs no container images"}
        # What is held there is what the pods take from the cluster, and room for fewer is left beside them.
        async with asyncio.timeout(PATIENCE):
            while [worker async for worker in client.workers()]:
                await asyncio.sleep(0.1)
        before = await fits(client, asked)
        holding = [await client.submit(["sleep", "600"], providers=["kubernetes"], resources=asked) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            while {(await client.get(each)).state for each in holding} != {wire.JOB_STATE_RUNNING}:
                await asyncio.sleep(0.1)
        after = await fits(client, asked)
        assert after["kubernetes"] <= before["kubernetes"] - 2
        assert after["docker"] == before["docker"]
        for each in holding:
            await client.cancel(each, force=True)
            await client.wait(each)
        process = await asyncio.create_subprocess_exec(
            HODEI, "--server", server.address.target, "place", "--recorded", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert {each["provider"] for each in json.loads(out)} == ENGINES


async def test_the_healthiest_takes_a_job_where_the_other_engines_have_failed(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W28, W36: one by a launch, one by pings; all have room again by then, so it is the score that decides."""
    command = tmp_path / "worker"
    monkeypatch.setenv("HODEI_DOCKER_ENABLED", "true")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", str(command))
    monkeypatch.setattr("hodei_server.loops.health.SECONDS", 0.5)
    settings = make_settings(providers="process,docker,kubernetes")
    spec = wire.JobSpec(argv=["true"], strategy=wire.STRATEGY_HEALTHIEST)
    async with FaultyProxy(path=engine_socket()) as proxy:
        monkeypatch.setenv("HODEI_DOCKER_HOST", f"tcp://{proxy.address}")
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            for _ in range(2):
                failing = await client.submit(["true"], providers=["process"])
                assert (await client.wait(failing)).cause == wire.CAUSE_UNSCHEDULABLE
            proxy.cut()
            async with asyncio.timeout(PATIENCE):
                while True:
                    health = {each.provider: each.inputs.health for each in (await client.plan(spec)).candidates}
                    if max(health["process"], health["docker"]) < health["kubernetes"] - 0.05:
                        break
                    await asyncio.sleep(0.1)
            proxy.heal()
            async with asyncio.timeout(PATIENCE):
                while not all(each.room for each in (await client.plan(spec)).candidates):
                    await asyncio.sleep(0.1)
            job = await client.submit(spec)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (decision,) = (await client.explain(job)).decisions
            (attempt,) = (await client.get(job)).attempts
            assert decision.provider == attempt.provider == "kubernetes"
            assert all(each.room for each in decision.candidates)


async def fits(client: Client, asked: wire.Resources) -> dict[str, int]:
    """Return how many more such workers each engine could take."""
    plan = await client.plan(wire.JobSpec(argv=["true"], resources=asked))
    return {each.provider: each.inputs.fits for each in plan.candidates}
