"""An engine that is out of reach, or can start nothing, beside a provider that works."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE, until
from hodei_faults.containers import container_of, docker, leftovers
from hodei_faults.needs import engine_socket
from hodei_faults.proxy import FaultyProxy
from hodei_providers.docker.config import DockerConfig
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]

#: Holds a lock while it runs: nobody else runs it meanwhile, or that is written down.
ALONE = """
umask 0
exec 9>>"$0/lock-$HODEI_JOB_ID"
flock -n 9 || echo "$HODEI_JOB_ID" >>"$0/twice"
echo "$HODEI_JOB_ID" >>"$0/runs"
touch "$0/started-$HODEI_JOB_ID"
while [ ! -e "$0/go" ]; do sleep 0.05; done
"""
SOON = wire.RetryPolicy(max_infrastructure_retries=50)
SOON.initial_backoff.FromMilliseconds(1)
SOON.max_backoff.FromMilliseconds(1)


@pytest.fixture
async def proxy() -> AsyncIterator[FaultyProxy]:
    """Return what stands before the engine."""
    async with FaultyProxy(path=engine_socket()) as running:
        yield running


async def test_jobs_of_an_engine_that_dies_under_load_are_done_by_another_provider(
    make_settings: MakeSettings,
    tmp_path: Path,
    proxy: FaultyProxy,
    wait_for: WaitFor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W08, W14, W28, W36: what was lost, on its way or waiting moves; what runs on is left alone; none runs twice."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("HODEI_DOCKER_HOST", f"tcp://{proxy.address}")
    monkeypatch.setenv("HODEI_DOCKER_MOUNTS", f"{folder}:{folder}")
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "6")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "4")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_WORKER_HOUR", "5")
    monkeypatch.setattr("hodei_server.loops.leases.ORPHAN_MARGIN", 2.0)
    settings = make_settings(
        providers="process,docker", strategy="lowest-cost", lease="1s", orphan_after="10s", drain_timeout="0s"
    )

    def started() -> set[str]:
        return {path.name.removeprefix("started-") for path in folder.glob("started-*")}

    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        argv = ["sh", "-c", ALONE, str(folder)]
        on_docker = [await client.submit(argv, retry=SOON) for _ in range(4)]
        await wait_for(lambda: started() == set(on_docker))
        containers = {job: container_of(job) for job in on_docker}
        assert all(containers.values())
        lost, kept = on_docker[:2], on_docker[2:]
        proxy.cut()
        # There is room on the engine, which is cheaper: some may be sent there before it is known to be out of reach.
        later = [await client.submit(argv, retry=SOON) for _ in range(6)]
        await asyncio.to_thread(docker, "kill", *(containers[job] for job in lost))
        named = await client.submit(["true"], providers=["docker"], retry=SOON)
        await wait_for(lambda: (folder / "runs").read_text().count("\n") >= 4 + 4)
        (folder / "go").touch()
        for job in [*on_docker, *later]:
            async with asyncio.timeout(PATIENCE):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        for job in lost:
            first, second = (await client.get(job)).attempts
            assert (first.provider, first.outcome.cause) == ("docker", wire.CAUSE_WORKER_LOST)
            assert "can't be reached to confirm" in first.outcome.message
            assert (second.provider, second.outcome.cause) == ("process", wire.CAUSE_EXIT_CODE)
            told = await client.explain(job)
            moved = "moved from provider docker, where attempt 1 failed"
            assert told.decisions[-1].reason == moved
            assert any(moved in event.reason for event in told.events)
        for job in kept:
            (only,) = (await client.get(job)).attempts
            assert only.provider == "docker"
            assert (await client.receipt(job)).complete
        tried = [attempt for job in later for attempt in (await client.get(job)).attempts]
        assert {attempt.provider for attempt in tried if attempt.outcome.cause == wire.CAUSE_EXIT_CODE} == {"process"}
        assert {attempt.outcome.cause for attempt in tried} <= {wire.CAUSE_PROVIDER_ERROR, wire.CAUSE_EXIT_CODE}
        # A job that names the engine waits for it, and says so.
        verdict = next(each for each in (await client.explain(named)).providers if each.provider == "docker")
        assert (verdict.eligible, verdict.room) == (True, False)
        assert verdict.reason.startswith(("it is not healthy: ", "its breaker is open"))
        assert (await client.get(named)).state != wire.JOB_STATE_SUCCEEDED
        assert not (folder / "twice").exists()
        proxy.heal()
        assert (await client.wait(named)).state == wire.JOB_STATE_SUCCEEDED
        await wait_for(lambda: not any(leftovers(f"hodei.job={job}") for job in on_docker))


async def test_a_warm_worker_takes_a_job_while_its_engine_is_out_of_reach(
    make_settings: MakeSettings, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W36: it is there and connected; nothing is asked of the engine. A job that no worker fits waits, and says why."""
    monkeypatch.setenv("HODEI_DOCKER_HOST", f"tcp://{proxy.address}")
    monkeypatch.setenv("HODEI_PROVIDER_DOCKER_POOL_MIN_READY", "1")
    monkeypatch.setattr("hodei_server.loops.health.SECONDS", 0.2)
    settings = make_settings()
    other = wire.JobSpec(argv=["true"], resources=wire.Resources(memory_bytes=128 << 20), retry=SOON)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        async with asyncio.timeout(PATIENCE):
            while not (ready := [each.worker_id async for each in client.workers() if each.warm and each.connected]):
                await asyncio.sleep(0.05)
        proxy.cut()
        async with asyncio.timeout(PATIENCE):
            while not (await client.plan(other)).candidates[0].reason.startswith("it is not healthy: "):
                await asyncio.sleep(0.05)
        waiting = await client.submit(other)
        job = await client.submit(["true"])
        async with asyncio.timeout(PATIENCE):
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        (attempt,) = (await client.get(job)).attempts
        assert [attempt.worker_id] == ready
        (decision,) = (await client.explain(job)).decisions
        assert decision.candidates[0].reason == "a worker that fits waits there"
        assert (await client.get(waiting)).state == wire.JOB_STATE_QUEUED
        proxy.heal()
        assert (await client.wait(waiting)).state == wire.JOB_STATE_SUCCEEDED


@pytest.fixture
def broken_image(tmp_path: Path, config: DockerConfig) -> Iterator[str]:
    """Return a worker's image whose workers end before they say hello."""
    name = f"hodei-broken:{secrets.token_hex(4)}"
    (tmp_path / "Dockerfile").write_text(f'FROM {config.worker_image}\nENTRYPOINT ["false"]\n')
    build = ["docker", "build", "-q", "-t", name, str(tmp_path)]
    subprocess.run(build, env=os.environ | {"DOCKER_BUILDKIT": "0"}, capture_output=True, timeout=100, check=True)
    yield name
    docker("rmi", "-f", name)


async def test_a_breaker_opens_lets_one_try_after_the_other_and_closes(
    make_settings: MakeSettings, broken_image: str, config: DockerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W28: once what every worker failed of is mended, the next probe lets everybody in."""
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "6")
    # Long enough for one that was seen to fail to have come to its end before the next one, on a busy machine too.
    for bound in ("FIRST_SECONDS", "MOST_SECONDS"):
        monkeypatch.setattr(f"hodei_server.domain.breaker.{bound}", 8.0)
    settings = make_settings(worker_image=broken_image, lease="1s")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        jobs = [await client.submit(["true"], retry=SOON) for _ in range(6)]

        async def reason() -> str:
            return (await client.explain(jobs[-1])).providers[0].reason

        async def tries() -> list[wire.Attempt]:
            found = [attempt for job in jobs for attempt in (await client.get(job)).attempts]
            return sorted(found, key=lambda each: each.create_time.ToNanoseconds())

        async def is_left_alone() -> bool:
            # What was on its way when it opened has failed, too.
            return "its breaker is open" in await reason() and all(each.HasField("end_time") for each in await tries())

        await until(is_left_alone)
        before = {each.attempt_uid for each in await tries()}

        async def probes() -> list[wire.Attempt]:
            found = [each for each in await tries() if each.attempt_uid not in before]
            return [each for each in found if each.outcome.cause == wire.CAUSE_WORKER_LOST]

        async with asyncio.timeout(PATIENCE):
            while len(await probes()) < 3:
                await asyncio.sleep(0.1)
        docker("tag", config.worker_image, broken_image)
        for job in jobs:
            async with asyncio.timeout(PATIENCE):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        found = await probes()
        assert all(
            after.create_time.ToNanoseconds() >= each.end_time.ToNanoseconds()
            for each, after in itertools.pairwise(found)
        )
        assert "breaker" not in await reason()
