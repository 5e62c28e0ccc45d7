"""The Docker provider on the real engine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.containers import docker, inspect, leftovers
from hodei_providers.contract import (
    Handle,
    ImageRejectedError,
    LaunchRejectedError,
    LaunchRequest,
    Provider,
    Resources,
    UnsupportedRequestError,
    WorkerPhase,
)
from hodei_providers.docker.config import DockerConfig, Mount
from hodei_providers.docker.provider import DockerProvider
from hodei_providers.testing import (
    INSTALLATION,
    PATIENCE,
    EndWorker,
    MakeProvider,
    ProviderContract,
    destroyed,
    make_request,
    until,
)


class TestDockerProvider(ProviderContract):
    @pytest.fixture
    def make_provider(self, tmp_path: Path, config: DockerConfig, player_image: str) -> MakeProvider:
        """Return providers over one engine."""
        played = dataclasses.replace(config, worker_image=player_image)
        return lambda: DockerProvider("docker", data_dir=tmp_path, config=played)

    @pytest.fixture
    def end_worker(self) -> EndWorker:
        """Have a worker exit."""

        async def end(_: Provider, request: LaunchRequest, code: int) -> None:
            command = f"echo {code} > /hodei/worker/exit.new; mv /hodei/worker/exit.new /hodei/worker/exit"
            await asyncio.to_thread(docker, "exec", f"hodei-{request.worker_id}", "sh", "-c", command, check=False)

        return end


@pytest.fixture
async def provider(tmp_path: Path, config: DockerConfig, player_image: str) -> AsyncIterator[DockerProvider]:
    """Return an entered provider whose workers are played; what it launched is removed."""
    played = dataclasses.replace(config, worker_image=player_image)
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=played)) as made:
        yield made


@contextlib.asynccontextmanager
async def entered(made: DockerProvider) -> AsyncIterator[DockerProvider]:
    """Enter a provider, and remove what it has launched."""
    async with made:
        yield made
        for handle in await made.list(INSTALLATION):
            await destroyed(made, handle)


async def test_the_engine_reports_what_was_asked(tmp_path: Path, config: DockerConfig, player_image: str) -> None:
    """W37: processors, memory, labels and settings reach the container, and nothing else is given."""
    config = dataclasses.replace(
        config,
        worker_image=player_image,
        pids_limit=99,
        tmp_size=1 << 20,
        mounts=(Mount("/etc/hostname", "/mnt/name", read_only=True),),
        container_labels={"team": "ops"},
    )
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        request = make_request(
            resources=Resources(cpu_millis=500, memory_bytes=256 << 20),
            labels={"job": "j1", "attempt": "2", "attempt-uid": "a1", "tenant": "t1"},
            ca_pem=b"an authority",
        )
        handle = await provider.launch(request)
        reported = inspect(handle.data["container"])
        host: dict[str, Any] = reported["HostConfig"]
        assert reported["Name"] == f"/hodei-{request.worker_id}"
        assert host["NanoCpus"] == 500_000_000
        assert host["Memory"] == (256 << 20) + config.memory_overhead
        assert host["PidsLimit"] == 99
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["ReadonlyRootfs"]
        assert host["LogConfig"]["Config"]["max-file"] == "1"
        assert host["Tmpfs"]["/tmp"].endswith("size=1048576")
        labels = reported["Config"]["Labels"]
        assert labels["hodei.installation"] == INSTALLATION
        assert labels["hodei.worker"] == request.worker_id
        assert (labels["hodei.job"], labels["hodei.attempt"], labels["hodei.tenant"]) == ("j1", "2", "t1")
        assert labels["team"] == "ops"
        mounts = {each["Destination"]: each for each in reported["Mounts"]}
        assert set(mounts) == {"/hodei", "/home/hodei", "/mnt/name"}
        assert not mounts["/mnt/name"]["RW"]
        # And inside, as the job's processes find it.
        inside = docker(
            "exec",
            reported["Id"],
            "sh",
            "-c",
            "id -u; grep -E '^(CapEff|Seccomp):' /proc/self/status; "
            "touch /tmp/x ~/x && echo writable; touch /x || echo read-only",
        )
        assert inside.split() == ["1000", "CapEff:", "0000000000000000", "Seccomp:", "2", "writable", "read-only"]


#: Says what the kernel gives a container of memory alone, and of swap: beside it in version 2, with it in version 1.
LIMITS = """
cd /sys/fs/cgroup
if [ -e cgroup.controllers ]; then cat memory.max memory.swap.max; echo beside
else cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes; echo both; fi
"""


async def test_a_container_has_no_swap_beyond_its_memory(provider: DockerProvider) -> None:
    """W06: by the engine's report and by the kernel's own files, as far as the engine can limit swap at all."""
    if docker("info", "--format", "{{.SwapLimit}}").strip() != "true":
        pytest.skip("the engine says that it can't limit swap here: SwapLimit of `docker info` is false")
    handle = await provider.launch(make_request(resources=Resources(memory_bytes=128 << 20)))
    host = inspect(handle.data["container"])["HostConfig"]
    assert host["MemorySwap"] == host["Memory"] > 128 << 20
    memory, swap, how = docker("exec", handle.data["container"], "sh", "-c", LIMITS).split()
    assert int(memory) == host["Memory"]
    assert int(swap) == {"beside": 0, "both": host["Memory"]}[how]


async def test_the_token_is_a_file_that_only_the_worker_reads(provider: DockerProvider) -> None:
    """W24: neither in the environment nor in the labels, nor in anything else that the engine tells."""
    request = make_request()
    handle = await provider.launch(request)
    assert request.otp not in str(inspect(handle.data["container"]))
    token = docker(
        "exec", handle.data["container"], "sh", "-c", "cat /hodei/worker/otp; stat -c ' %a %u' /hodei/worker/otp"
    )
    assert token.split() == [request.otp, "400", "1000"]


RELAXED: list[tuple[dict[str, Any], str, str]] = [
    ({"read_only_root": False, "user": "0"}, "touch /x && echo writable", "writable"),
    ({"capabilities": ("CHOWN",), "user": "0"}, "grep CapEff /proc/self/status", "CapEff:\t0000000000000001"),
    ({"user": "1234:5678"}, "id -u; id -g; touch /hodei/worker/x", "1234\n5678"),
    ({"no_new_privileges": False}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0"),
]


@pytest.mark.parametrize("case", RELAXED)
async def test_a_setting_relaxes_what_is_closed(
    tmp_path: Path, config: DockerConfig, player_image: str, case: tuple[dict[str, Any], str, str]
) -> None:
    """An administrator may; a job has no way to ask for it."""
    relaxed, command, expected = case
    config = dataclasses.replace(config, worker_image=player_image, **relaxed)
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        handle = await provider.launch(make_request())
        assert docker("exec", handle.data["container"], "sh", "-c", command).strip() == expected


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(gpu_count=1), "resources.gpu_count"),
        (Resources(cpu_millis=10_000_000), "resources.cpu_millis"),
        (Resources(memory_bytes=1 << 50), "resources.memory_bytes"),
        (Resources(memory_bytes=-(64 << 20) + 1), "resources.memory_bytes"),
    ],
)
async def test_what_the_engine_does_not_have_is_refused_by_name(
    provider: DockerProvider, resources: Resources, field: str
) -> None:
    """W38: by the provider before anything is made, or by the engine's own word; nothing is left."""
    with pytest.raises(UnsupportedRequestError) as caught:
        await provider.launch(make_request(resources=resources))
    assert caught.value.field == field
    assert leftovers(f"hodei.installation={INSTALLATION}") == []


async def test_nothing_is_left_when_the_start_fails_after_the_making(tmp_path: Path, config: DockerConfig) -> None:
    """W43: container and volumes go; the engine's words are told."""
    config = dataclasses.replace(config, worker_image="busybox:stable", user="nobody-of-this-name")
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        request = make_request()
        with pytest.raises(LaunchRejectedError, match="nobody-of-this-name"):
            await provider.launch(request)
        assert leftovers(f"hodei.worker={request.worker_id}") == []
        assert await provider.list(INSTALLATION) == []


async def test_a_container_that_was_made_and_not_started_is_launched_again(
    provider: DockerProvider, player_image: str
) -> None:
    """W13: what a server left that died half-way is found by its name, and gets the new token."""
    request = make_request()
    docker(
        "create",
        *("--name", f"hodei-{request.worker_id}"),
        *("--label", f"hodei.installation={INSTALLATION}", "--label", "hodei.provider=docker"),
        *("--label", f"hodei.worker={request.worker_id}"),
        *("-v", f"hodei-{request.worker_id}:/hodei"),
        player_image,
    )
    assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.MISSING
    assert [handle.worker_id for handle in await provider.list(INSTALLATION)] == [request.worker_id]
    handle = await provider.launch(request)
    await until(provider, handle, WorkerPhase.RUNNING)
    assert docker("exec", handle.data["container"], "cat", "/hodei/worker/otp") == request.otp


async def test_a_strangers_container_of_the_name_is_left_alone(provider: DockerProvider, player_image: str) -> None:
    """W12: it carries no label of ours."""
    request = make_request()
    name = f"hodei-{request.worker_id}"
    docker("run", "-d", "--name", name, player_image)
    try:
        with pytest.raises(LaunchRejectedError, match="another container"):
            await provider.launch(request)
        assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.MISSING
        assert await provider.destroy(Handle(request.worker_id))
        assert inspect(name)["State"]["Running"]
    finally:
        docker("rm", "-f", "-v", name)


async def test_a_gpu_that_the_engine_does_not_have_is_refused_in_its_words(
    tmp_path: Path, config: DockerConfig, player_image: str
) -> None:
    """W38: the request reaches the engine; on one that has a GPU, the container that was asked for."""
    config = dataclasses.replace(config, worker_image=player_image, gpus=1)
    there = "nvidia" in json.loads(docker("info", "--format", "{{json .Runtimes}}"))
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        request = make_request(resources=Resources(gpu_count=1))
        if not there:
            with pytest.raises(UnsupportedRequestError, match=r"\[gpu\]"):
                await provider.launch(request)
            assert leftovers(f"hodei.worker={request.worker_id}") == []
            return
        handle = await provider.launch(request)
        asked = inspect(handle.data["container"])["HostConfig"]["DeviceRequests"]
        assert [(each["Count"], each["Capabilities"]) for each in asked] == [(1, [["gpu"]])]


async def test_volumes_of_a_container_that_somebody_removed_are_ours_to_remove(provider: DockerProvider) -> None:
    """W11: `docker rm` leaves them; they are listed and go."""
    request = make_request()
    watching = provider.watch(INSTALLATION)
    seen = asyncio.ensure_future(anext(watching))
    handle = await provider.launch(request)
    await asyncio.to_thread(docker, "rm", "-f", handle.data["container"])
    async with asyncio.timeout(PATIENCE):
        description = await seen
        while description.phase is not WorkerPhase.MISSING:
            description = await anext(watching)
    assert description.handle.worker_id == request.worker_id
    assert [each.worker_id for each in await provider.list(INSTALLATION)] == [request.worker_id]
    assert await provider.destroy(handle)
    assert leftovers(f"hodei.worker={request.worker_id}") == []


async def test_an_image_that_may_not_be_pulled_is_refused_at_once(tmp_path: Path, config: DockerConfig) -> None:
    """W01: the setting that forbids it is named."""
    config = dataclasses.replace(config, worker_image="hodei-nowhere:1", pull_policy="never")
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        with pytest.raises(ImageRejectedError, match="HODEI_DOCKER_PULL_POLICY"):
            await provider.launch(make_request())


async def test_a_registry_that_cannot_be_reached_is_waited_for_until_the_launch_is_given_up(
    tmp_path: Path, config: DockerConfig
) -> None:
    """W01, W16: it may heal; meanwhile it is told why, and giving up leaves nothing."""
    image = "127.0.0.1:1/hodei/nowhere:1"
    lines: asyncio.Queue[str] = asyncio.Queue()
    request = make_request(image=image, report=lines.put_nowait)
    async with entered(DockerProvider("docker", data_dir=tmp_path, config=config)) as provider:
        launching = asyncio.ensure_future(provider.launch(request))
        async with asyncio.timeout(PATIENCE):
            while "can't be pulled yet" not in (line := await lines.get()):
                pass
        assert "connection refused" in line
        description = await provider.describe(Handle(request.worker_id))
        assert description.phase is WorkerPhase.PENDING
        assert "can't be pulled yet" in description.message
        assert "can't be pulled yet" in "\n".join(await provider.diagnose(Handle(request.worker_id)))
        assert [each.worker_id for each in await provider.list(INSTALLATION)] == [request.worker_id]
        assert await provider.destroy(Handle(request.worker_id))
        with pytest.raises(Exception, match="removed before"):
            await launching
        assert await provider.list(INSTALLATION) == []


async def test_a_diagnosis_has_state_events_and_last_output(provider: DockerProvider) -> None:
    """L17: what came before the agent was connected."""
    handle = await provider.launch(make_request())
    async with asyncio.timeout(PATIENCE):
        while "the last words" not in await asyncio.to_thread(docker, "logs", handle.data["container"]):
            await asyncio.sleep(0.05)
    await asyncio.to_thread(docker, "kill", handle.data["container"])
    await until(provider, handle, WorkerPhase.EXITED)
    description = await provider.describe(handle)
    assert description.signal == 9
    text = "\n".join(await provider.diagnose(handle))
    for part in ("exited, exit code 137", "event: die (exitCode 137)", "the last words"):
        assert part in text
