"""Images that are pulled, may not be had, or may come yet: on the real engine, from a registry of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import SYSTEM, Chunk, Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import container_of, docker
from hodei_faults.logs import read, until_said
from hodei_faults.registry import Registry
from hodei_providers.docker import images
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.spec import agent_volume_name
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
NO_RETRY = wire.RetryPolicy(max_infrastructure_retries=0)
USER = "somebody:secret of theirs"
#: Of a pull that is under way: the image, and how many megabytes of how many are there.
PROGRESS = re.compile(r"image (\S+): 0 of 1 layers there, (\S+) MB of (\S+) MB fetched")


@pytest.fixture(scope="module")
def saved() -> bytes:
    """Return an image as a file."""
    return subprocess.run(["docker", "save", "busybox:stable"], capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def registry(saved: bytes) -> Iterator[Registry]:
    """Return a registry that is open to all."""
    with Registry(saved) as serving:
        yield serving
        docker("rmi", serving.name, check=False)


@pytest.fixture
def closed_registry(saved: bytes) -> Iterator[Registry]:
    """Return a registry that wants credentials."""
    with Registry(saved, USER) as serving:
        yield serving
        docker("rmi", serving.name, check=False)


async def test_a_pull_is_told_at_the_beginning_of_the_log(client: Client, registry: Registry) -> None:
    """W01, W02: as lines of the system; the job's own output follows."""
    job = await client.submit(["echo", "from the image"], image=registry.name)
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    told = (await read(client, job, SYSTEM)).decode()
    assert f"image {registry.name}: pulling" in told
    assert f"image {registry.name}: pulled in" in told
    assert await read(client, job) == b"from the image\n"
    assert (await client.receipt(job)).complete


async def test_a_pull_that_takes_long_tells_how_far_it_is(client: Client, registry: Registry) -> None:
    """W01, W02: while it goes on, in layers and bytes."""
    registry.hurried.clear()
    job = await client.submit(["true"], image=registry.name)

    async def half_way() -> str:
        # The first line of a busy machine may come before the first byte.
        told = ""
        async for event in client.logs(job):
            told += event.data.decode() if isinstance(event, Chunk) and event.stream == SYSTEM else ""
            for name, done, size in PROGRESS.findall(told):
                if 0 < float(done) < float(size):
                    return str(name)
        raise AssertionError(f"it never was half-way: {told}")

    async with asyncio.timeout(PATIENCE):
        assert await half_way() == registry.name
    registry.hurried.set()
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert f"image {registry.name}: pulled in" in (await read(client, job, SYSTEM)).decode()


async def test_an_image_that_does_not_exist_fails_its_job_at_once(client: Client, registry: Registry) -> None:
    """W01, L26: with the registry's words, and no second attempt."""
    image = f"{registry.host}/hodei/image:none"
    job = await client.submit(["true"], image=image)
    outcome = await client.wait(job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_IMAGE)
    assert image in outcome.message
    assert "not found" in outcome.message or "unknown" in outcome.message
    assert len((await client.get(job)).attempts) == 1
    assert outcome.message in (await read(client, job, SYSTEM)).decode()


async def test_an_image_that_wants_credentials_fails_its_job_at_once(client: Client, closed_registry: Registry) -> None:
    """W01: nobody has any."""
    job = await client.submit(["true"], image=closed_registry.name)
    outcome = await client.wait(job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_IMAGE)


@pytest.mark.parametrize("kept_by", ["file", "helper", "store"])
async def test_credentials_come_from_dockers_own_file_and_helpers(
    make_settings: MakeSettings,
    closed_registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept_by: str,
) -> None:
    """As for Docker's own command."""
    username, _, password = USER.partition(":")
    program = tmp_path / "docker-credential-test"
    answer = json.dumps({"ServerURL": closed_registry.host, "Username": username, "Secret": password})
    program.write_text(f'#!/bin/sh\n[ "$(cat)" = {closed_registry.host} ] && [ "$1" = get ] && echo \'{answer}\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    encoded = base64.b64encode(USER.encode()).decode()
    contents = {
        "file": {"auths": {closed_registry.host: {"auth": encoded}}},
        "helper": {"credHelpers": {closed_registry.host: "test"}},
        "store": {"credsStore": "test"},
    }[kept_by]
    (tmp_path / "config.json").write_text(json.dumps(contents))
    monkeypatch.setenv("HODEI_DOCKER_AUTH_CONFIG", str(tmp_path / "config.json"))
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"], image=closed_registry.name, retry=NO_RETRY)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


async def test_a_registry_that_does_not_answer_is_waited_for_until_the_start_timeout(client: Client) -> None:
    """W01, W02: it might come; the log and the outcome say what it was waited for."""
    job = await client.submit(["true"], image="127.0.0.1:1/hodei/image:1", start_timeout=10, retry=NO_RETRY)
    outcome = await client.wait(job)
    assert outcome.cause == wire.CAUSE_START_TIMEOUT
    assert "in time: image 127.0.0.1:1/hodei/image:1 can't be pulled yet: " in outcome.message
    assert "can't be pulled yet" in (await read(client, job, SYSTEM)).decode()


async def test_what_is_cancelled_while_its_image_is_waited_for_is_never_launched(
    client: Client, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W16: although the registry comes back, as a job shows that has gone on waiting for it."""
    monkeypatch.setattr(images, "RETRY_SECONDS", (0.2,))
    with Registry(saved) as gone:
        pass
    job = await client.submit(["true"], image=gone.name)
    other = await client.submit(["true"], image=gone.name_by_content)
    for waiting in (job, other):
        await until_said(client, waiting, "can't be pulled yet")
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    with gone:
        # Until then, what still wanted the first one's image would have asked for it, as often.
        assert (await client.wait(other)).state == wire.JOB_STATE_SUCCEEDED
        assert [path for path in gone.asked if path.endswith("/manifests/1")] == []
    docker("rmi", gone.name_by_content, check=False)
    assert container_of(job) == ""
    assert (await client.get(job)).attempts[-1].outcome.cause == wire.CAUSE_CANCELLED


async def test_an_agents_volume_that_somebody_has_removed_is_filled_again(client: Client, config: DockerConfig) -> None:
    """W43: by the very launch that finds it empty, so that a job that is never tried again runs, too."""
    job = await client.submit(["true"], image="busybox:stable", retry=NO_RETRY)
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    image_id = docker("image", "inspect", "--format", "{{.Id}}", config.worker_image).strip()
    async with asyncio.timeout(PATIENCE):
        # Its container may not be gone yet.
        while agent_volume_name(image_id) in docker("volume", "ls", "--quiet").split():
            docker("volume", "rm", agent_volume_name(image_id), check=False)
            await asyncio.sleep(0.1)
    job = await client.submit(["true"], image="busybox:stable", retry=NO_RETRY)
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
