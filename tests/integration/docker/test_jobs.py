"""Jobs in containers, over a real server and the real engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDERR, SYSTEM, Client, ClientSettings, PreconditionError
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import container_of, docker, inspect, leftovers
from hodei_faults.logs import read
from hodei_providers.docker.config import DockerConfig
from hodei_server.app import Server
from hodei_server.settings import Settings

#: What a job's environment has beside what its image says.
GIVEN = {"HODEI_JOB_ID", "HODEI_ATTEMPT", "HODEI_ATTEMPT_UID", "HODEI_WORKER_ID", "TRACEPARENT"}
#: Tells what a process was given and what it knows.
OF_A_PROCESS = ("environ", "maps", "mem", "auxv")
MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]


async def test_the_output_of_an_instant_is_whole(client: Client) -> None:
    """L03: a container that lives for milliseconds; none of it is left behind."""
    jobs = [await client.submit(["sh", "-c", f"echo out {number}; echo err >&2; exit 7"]) for number in range(4)]
    for number, job in enumerate(jobs):
        outcome = await client.wait(job)
        assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_EXIT_CODE, 7)
        assert await read(client, job) == b"out %d\n" % number
        assert (await client.receipt(job)).complete


async def test_what_a_job_asks_for_reaches_its_container(client: Client, shared: Path, wait_for: WaitFor) -> None:
    """W37: from the command line's units to the engine's own report; the labels name the job."""
    script = "touch /mnt/shared/started; while [ ! -e /mnt/shared/go ]; do sleep 0.05; done"
    resources = wire.Resources(cpu_millis=500, memory_bytes=256 << 20)
    job = await client.submit(["sh", "-c", script], resources=resources)
    await wait_for((shared / "started").exists)
    reported = inspect(container_of(job))
    assert reported["HostConfig"]["NanoCpus"] == 500_000_000
    assert reported["HostConfig"]["Memory"] == (256 << 20) + DockerConfig().memory_overhead
    labels = reported["Config"]["Labels"]
    attempt = (await client.get(job)).attempts[0]
    assert labels["hodei.attempt-uid"] == attempt.attempt_uid
    assert (labels["hodei.attempt"], labels["hodei.tenant"]) == ("1", "default")
    (shared / "go").touch()
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("resources", [wire.Resources(gpu_count=1), wire.Resources(disk_bytes=1 << 30)])
async def test_what_the_engine_does_not_have_is_refused_with_the_reason(
    client: Client, resources: wire.Resources
) -> None:
    """W02, W37, W38: no container is tried; the refusal says which resource and why."""
    with pytest.raises(PreconditionError, match=r"resources\.\w+: .*(nothing bounds|no GPUs)"):
        await client.submit(["true"], resources=resources)


async def test_memory_that_its_leader_fills_ends_the_job_as_such(client: Client) -> None:
    """W06: the kernel takes the job's process, the agent outlives it and tells; the log is whole."""
    job = await client.submit(
        ["sh", "-c", "echo before; cat /proc/self/oom_score_adj; exec tail /dev/zero"],
        resources=wire.Resources(memory_bytes=32 << 20),
    )
    outcome = await client.wait(job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_OUT_OF_MEMORY)
    assert await read(client, job) == b"before\n1000\n"
    assert (await client.receipt(job)).complete


async def test_memory_that_a_child_fills_is_told_too(client: Client) -> None:
    """W06: the leader only sees a child that failed; the container's counter tells why."""
    job = await client.submit(
        ["sh", "-c", "tail /dev/zero; echo a child ended with $?; exit 5"],
        resources=wire.Resources(memory_bytes=32 << 20),
    )
    outcome = await client.wait(job)
    assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_OUT_OF_MEMORY, 5)
    assert await read(client, job) == b"a child ended with 137\n"


async def test_cancelling_ends_all_that_the_job_has_started(client: Client, shared: Path, wait_for: WaitFor) -> None:
    """W17, W31: children in sessions of their own too; the container goes."""
    script = "trap '' TERM; setsid sleep 600 & touch /mnt/shared/started; sleep 600; sleep 600"
    job = await client.submit(["sh", "-c", script], cancel_grace=0.5)
    await wait_for((shared / "started").exists)
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    await wait_for(lambda: not container_of(job))


async def test_a_child_that_holds_the_output_open_holds_up_nothing(client: Client) -> None:
    """W18: the agent is the container's first process and reaps; the drain is bounded."""
    job = await client.submit(["sh", "-c", "setsid sleep 600 & (true &) ; echo done"])
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert await read(client, job) == b"done\n"


async def test_a_job_in_a_users_image_starts_from_what_the_image_says_and_nothing_of_the_agents(
    client: Client, tmp_path: Path
) -> None:
    """W24: its environment is what `docker run` gives, with a job's names; no library or file of the agent is open."""
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:stable-slim\nENV PATH=/opt/own/bin:/usr/bin:/bin LD_LIBRARY_PATH=/opt/own/lib LD_PRELOAD= A=b\n"
    )
    image = f"hodei-own:{tmp_path.name.lower()}"
    docker("build", "-q", "-t", image, str(tmp_path))
    try:
        plain = docker("run", "--rm", image, "cat", "/proc/self/environ").rstrip("\0").split("\0")
        job = await client.submit(["cat", "/proc/self/environ", "/proc/self/maps"], image=image)
        opened = await client.submit(["sh", "-c", "ls -l /proc/$$/fd; touch /opt/hodei-agent/x"], image=image)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert (await client.wait(opened)).cause == wire.CAUSE_EXIT_CODE
    finally:
        docker("rmi", "-f", image, check=False)
    *variables, maps = (await read(client, job)).decode().split("\0")
    found = dict(each.split("=", 1) for each in variables)
    assert set(found) - {each.partition("=")[0] for each in plain} == GIVEN
    assert {each for each in plain if not each.startswith("HOSTNAME=")} <= set(variables)
    assert "ld-linux" in maps
    assert "hodei" not in maps
    descriptors = re.findall(r" (\d+) -> (\S+)", (await read(client, opened)).decode())
    assert [number for number, _ in descriptors] == ["0", "1", "2"]
    assert b"Read-only" in await read(client, opened, STDERR)


@pytest.mark.parametrize("image", ["", "busybox:stable"])
async def test_a_job_finds_no_token_and_cannot_look_into_the_agent(client: Client, image: str) -> None:
    """W24: not in its environment, not as a file, and not in the agent, of the same user; as root neither."""
    # What can be opened of the job's own process, which is as any other, can't be opened of the agent.
    opening = (
        f"for pid in $$ 1; do for name in {' '.join(OF_A_PROCESS)}; do "
        "(: < /proc/$pid/$name) 2> /dev/null && echo opened $pid $name; done; done; "
    )
    script = f"env; find /hodei -name otp; cat /hodei/worker/otp; {opening} echo me $$; tr '\\0' ' ' </proc/1/cmdline"
    job = await client.submit(["sh", "-c", script], image=image)
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    text = (await read(client, job)).decode()
    for word in ("OTP", "/otp", "HODEI_SERVER_ADDRESS"):
        assert word not in text
    lines = text.splitlines()
    (own,) = [line.removeprefix("me ") for line in lines if line.startswith("me ")]
    assert [line for line in lines if line.startswith("opened")] == [f"opened {own} {name}" for name in OF_A_PROCESS]
    assert "hodei" in lines[-1]


async def test_a_worker_that_ends_before_it_connects_leaves_its_words_in_the_log(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    """L17, L26: what the container printed and what the engine says, as lines of the system."""
    folder = tmp_path / "image"
    folder.mkdir()
    entrypoint = 'ENTRYPOINT ["/bin/sh", "-c", "echo the last words; exit 7"]'
    (folder / "Dockerfile").write_text(f"FROM busybox:stable\n{entrypoint}\n")
    image = f"hodei-crashing:{tmp_path.name.lower()}"
    docker("build", "-q", "-t", image, str(folder))
    try:
        settings = make_settings(worker_image=image)
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(["true"], retry=wire.RetryPolicy(max_infrastructure_retries=0))
            outcome = await client.wait(job)
            assert outcome.cause == wire.CAUSE_WORKER_LOST
            assert "exited with code 7" in outcome.message
            text = (await read(client, job, SYSTEM)).decode()
            for part in ("the last words", "exit code 7", "event: die"):
                assert part in text
    finally:
        docker("rmi", "-f", image)


async def test_an_image_of_the_users_own_runs_with_its_output_whole(client: Client) -> None:
    """L03: the agent comes along; the log begins with the job's first byte."""
    job = await client.submit(["sh", "-c", "echo from busybox; pwd"], image="busybox:stable")
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert await read(client, job) == b"from busybox\n/\n"


async def test_strays_of_ours_go_after_a_grace_and_others_never(make_settings: MakeSettings, wait_for: WaitFor) -> None:
    """W11, W12: what no database knows of; the neighbour's container stays."""
    # Long enough for a busy machine to see it there.
    settings = make_settings(stray_grace="5s")
    async with Server(settings):
        pass
    mine = (settings.data_dir / "installation").read_text().strip()

    def run(installation: str, worker: str) -> str:
        labels = (f"hodei.installation={installation}", "hodei.provider=docker", f"hodei.worker={worker}")
        options = [f"--label={label}" for label in labels]
        return docker("run", "-d", "--name", f"hodei-{worker}", *options, "busybox:stable", "sleep", "600").strip()

    stray, other = run(mine, "wstray"), run("another", "wother")
    try:
        async with Server(settings):
            assert inspect(stray)
            await wait_for(lambda: not inspect(stray))
            assert inspect(other)["State"]["Running"]
    finally:
        docker("rm", "-f", stray, other, check=False)


async def test_a_job_for_this_provider_waits_for_it_and_runs_nowhere_else(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W36, W28: the engine is out of reach; the job says so, and no other provider takes it."""
    settings = make_settings(providers="docker,process")
    async with Server(settings, ephemeral=True):
        pass
    monkeypatch.setenv("HODEI_DOCKER_HOST", "unix:///nowhere/docker.sock")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["echo", "hello"], providers=["docker"])
        other = await client.submit(["echo", "hello"], providers=["process"])
        assert (await client.wait(other)).state == wire.JOB_STATE_SUCCEEDED
        async with asyncio.timeout(PATIENCE):
            while True:
                found = {verdict.provider: verdict for verdict in (await client.explain(job)).providers}
                if "not healthy" in found["docker"].reason:
                    break
                await asyncio.sleep(0.05)
        assert "can't be reached" in found["docker"].reason or "Cannot connect" in found["docker"].reason
        assert not found["process"].eligible
        await client.cancel(job)


async def test_an_ephemeral_server_leaves_nothing(make_settings: MakeSettings, shared: Path, wait_for: WaitFor) -> None:
    """W11: containers and volumes go with it, running or not."""
    settings = make_settings()
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        await client.submit(["sh", "-c", "touch /mnt/shared/started; sleep 600"])
        await wait_for((shared / "started").exists)
    installation = (settings.data_dir / "installation").read_text().strip()
    await wait_for(lambda: not leftovers(f"hodei.installation={installation}"))
