"""What a bundle tells of jobs whose containers could not be started, or ended before they had their job."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.containers import docker
from hodei_providers.docker.config import DockerConfig
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
NO_RETRY = wire.RetryPolicy(max_infrastructure_retries=0)
#: Nobody listens there.
IMAGE = "127.0.0.1:1/hodei/image:1"


async def bundle(server: Server, hodei: Any, job: str) -> dict[str, str]:
    """Return the files of a job's bundle, by their names below its folder."""
    code, out, err = await hodei(server, "bundle", job, "--file", "-")
    assert (code, err) == (0, b"")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name.removeprefix(f"hodei-{job}/")] = file.read().decode()
    assert json.loads(found["bundle.json"])["missing"] == {}
    return found


async def test_the_bundle_of_an_image_that_can_not_be_pulled_has_the_engines_words(
    server: Server, client: Client, hodei: Any
) -> None:
    """W01, W02: every pull that was tried and why it failed; the job has printed nothing."""
    job = await client.submit(["true"], image=IMAGE, start_timeout=10, retry=NO_RETRY)
    outcome = await client.wait(job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_START_TIMEOUT)
    files = await bundle(server, hodei, job)
    told = files["attempts/1/system.log"]
    assert f"image {IMAGE}: pulling" in told
    assert f"image {IMAGE} can't be pulled yet: " in told
    assert "connection refused" in told
    assert outcome.message in told
    assert files["attempts/1/last-output.log"] == ""
    assert any(outcome.message in line for line in json.loads(files["explain.json"])["diagnosis"])
    assert json.loads(files["job.json"])["outcome"]["cause"] == "CAUSE_START_TIMEOUT"
    receipt = json.loads(files["attempts/1/receipt.json"])
    assert int(receipt["bytes"]) == len(told.encode())
    assert [each["state"] for each in json.loads(files["history.json"])][-1] == "JOB_STATE_FAILED"


@pytest.fixture
def talking_image(tmp_path: Path, config: DockerConfig) -> Iterator[str]:
    """Return a worker's image whose workers say something on both streams and end before they say hello."""
    name = f"hodei-talking:{secrets.token_hex(4)}"
    entrypoint = json.dumps(["/bin/sh", "-c", "echo the first words; echo the last words >&2; exit 7"])
    (tmp_path / "Dockerfile").write_text(f"FROM {config.worker_image}\nENTRYPOINT {entrypoint}\n")
    build = ["docker", "build", "-q", "-t", name, str(tmp_path)]
    subprocess.run(build, env=os.environ | {"DOCKER_BUILDKIT": "0"}, capture_output=True, timeout=100, check=True)
    yield name
    docker("rmi", "-f", name)


async def test_the_bundle_of_a_container_that_ended_at_once_has_its_events_and_its_last_output(
    make_settings: MakeSettings, talking_image: str, hodei: Any
) -> None:
    """L17: the container is gone by then; what was asked of it before stands in the attempt's log."""
    settings = make_settings(worker_image=talking_image, lease="1s")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"], retry=NO_RETRY)
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_WORKER_LOST)
        files = await bundle(server, hodei, job)
        told = files["attempts/1/system.log"]
        for words in ("the first words", "the last words", "event: create", "event: die (exitCode 7)", "exit code 7"):
            assert words in told
        assert files["attempts/1/last-output.log"] == ""
        assert json.loads(files["attempts/1/receipt.json"])["complete"]
