"""Accidents on the real engine: containers killed and removed, servers killed, the engine itself stopped."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import container_of, docker, leftovers
from hodei_faults.logs import read
from hodei_faults.needs import lacks
from hodei_faults.ports import fixed_ports
from hodei_faults.servers import ServerProcess
from hodei_providers.faults import VARIABLE as FAULT_POINT
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]

#: Says that it runs; the first time it stays until it is ended.
TWICE = "echo run >> /mnt/shared/runs; [ $(wc -l < /mnt/shared/runs) -gt 1 ] || sleep 600"
#: Numbers lines until it is told to end, then says how many there were.
COUNTING = (
    "i=0; while [ ! -e /mnt/shared/go ]; do i=$((i + 1)); echo $i; echo >>/mnt/shared/lines-$HODEI_JOB_ID; sleep 0.2; "
    "done; echo $i lines"
)


def run(command: str) -> None:
    """Run a command of a user's."""
    # Into nothing: an engine that is started keeps what it inherits open.
    nothing = subprocess.DEVNULL
    subprocess.run(["sh", "-c", command], check=True, timeout=100, stdout=nothing, stderr=nothing)


@pytest.mark.parametrize("accident", ["kill -s KILL", "rm -f", "rm -f -v", "stop -t 0"])
async def test_a_container_that_is_ended_from_outside_is_noticed_and_its_job_runs_again(
    client: Client, shared: Path, wait_for: WaitFor, accident: str
) -> None:
    """W08, W09, W11: killed, with its agent, or removed behind our back; nothing of it is left."""
    job = await client.submit(["sh", "-c", TWICE])
    await wait_for((shared / "runs").exists)
    await asyncio.to_thread(docker, *shlex.split(accident), container_of(job))
    outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED
    first, last = [attempt.outcome.cause for attempt in (await client.get(job)).attempts]
    # Who stops a container asks its worker first, which may have said so before it is killed.
    lost = {wire.CAUSE_WORKER_LOST, *([wire.CAUSE_EVICTED] if accident.startswith("stop") else [])}
    assert first in lost
    assert last == wire.CAUSE_EXIT_CODE
    await wait_for(lambda: not container_of(job))


@pytest.fixture
async def server_process(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, Client]]:
    """Return a server that is not started yet, and a client of it; what is left of its workers is removed."""
    settings = make_settings(**fixed_ports())
    async with Server(settings, ephemeral=True) as first:
        address = first.address
    process = ServerProcess(settings, tmp_path / "server.log", "HODEI_DOCKER_")
    async with Client(settings=ClientSettings(address)) as client:
        yield process, client
    await process.stop()
    async with Server(settings, ephemeral=True):
        pass


@pytest.mark.parametrize("point", ["docker.created", "docker.started"])
async def test_a_server_that_dies_while_it_launches_leaves_nothing_undone(
    server_process: tuple[ServerProcess, Client], wait_for: WaitFor, point: str
) -> None:
    """W11, W13, W43: between making and starting, and before the start is written down; the next one goes on."""
    process, client = server_process
    await process.start(**{FAULT_POINT: point})
    job = await client.submit(["echo", "hello"])
    assert await process.died() == -signal.SIGKILL
    assert len(container_of(job).split()) == 1
    await process.start()
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert len((await client.get(job)).attempts) == 1
    assert await read(client, job) == b"hello\n"
    await wait_for(lambda: not leftovers(f"hodei.job={job}"))


async def test_a_server_that_is_killed_adopts_its_containers_when_it_is_back(
    server_process: tuple[ServerProcess, Client], shared: Path, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W11, W14, W26: twenty of them go on meanwhile; each job runs once, and its log has every line once."""
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "20")
    process, client = server_process
    await process.start()
    jobs = [await client.submit(["sh", "-c", COUNTING]) for _ in range(20)]
    await wait_for(lambda: len(list(shared.glob("lines-*"))) == 20)
    before = {job: container_of(job) for job in jobs}
    await process.kill()
    killed = {job: len((shared / f"lines-{job}").read_text()) for job in jobs}
    # Each says more while nobody hears it.
    await wait_for(lambda: all(len((shared / f"lines-{job}").read_text()) > killed[job] for job in jobs))
    await process.start()
    assert {job: container_of(job) for job in jobs} == before
    (shared / "go").touch()
    for job in jobs:
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert len((await client.get(job)).attempts) == 1
        lines = (await read(client, job)).decode().splitlines()
        assert lines == [*map(str, range(1, len(lines))), f"{len(lines) - 1} lines"]
        assert (await client.receipt(job)).complete
    await wait_for(lambda: not any(leftovers(f"hodei.job={job}") for job in jobs))


async def test_the_engine_may_stop_and_start_under_running_jobs(
    client: Client, shared: Path, wait_for: WaitFor
) -> None:
    """W08, W28, W36: what ran is found lost, waits for the engine, and runs again there."""
    stop, start = os.environ.get("HODEI_TEST_ENGINE_STOP"), os.environ.get("HODEI_TEST_ENGINE_START")
    if not stop or not start:
        lacks("HODEI_TEST_ENGINE_STOP and HODEI_TEST_ENGINE_START are not set: commands that stop and start the engine")
    job = await client.submit(["sh", "-c", TWICE])
    await wait_for((shared / "runs").exists)
    try:
        await asyncio.to_thread(run, stop)
        waiting = await client.submit(["echo", "hello"], providers=["docker"])
        async with asyncio.timeout(PATIENCE):
            while "not healthy" not in (await client.explain(waiting)).providers[0].reason:
                await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(run, start)
    assert (await client.wait(waiting)).state == wire.JOB_STATE_SUCCEEDED
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert len((await client.get(job)).attempts) == 2
