"""The real engine: skipped where there is none on a laptop, failed in CI."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodei_faults.containers import docker
from hodei_providers.docker.config import DockerConfig

WORKER_IMAGE = os.environ.get("HODEI_WORKER_IMAGE") or "hodei-jobs-worker:latest"


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Need an engine with the worker's image."""
    try:
        missing = subprocess.run(["docker", "image", "inspect", WORKER_IMAGE], capture_output=True, check=False).stderr
    except FileNotFoundError as error:
        missing = str(error).encode()
    if missing:
        message = f"no engine with the image {WORKER_IMAGE} (HODEI_WORKER_IMAGE): {missing.decode().strip()}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def config() -> DockerConfig:
    """Return the settings that these tests use."""
    return DockerConfig(worker_image=WORKER_IMAGE)


@pytest.fixture(scope="session")
def player_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return an image whose worker says so, and exits with the code that a file in its folder names."""
    script = (
        "trap 'exit 0' TERM; echo the last words; "
        "while [ ! -f /hodei/worker/exit ]; do sleep 0.02; done; exit $(cat /hodei/worker/exit)"
    )
    folder: Path = tmp_path_factory.mktemp("player")
    entrypoint = json.dumps(["/bin/sh", "-c", script])
    (folder / "Dockerfile").write_text(f"FROM {WORKER_IMAGE}\nENTRYPOINT {entrypoint}\n")
    name = f"hodei-player:{secrets.token_hex(4)}"
    subprocess.run(
        ["docker", "build", "-q", "-t", name, str(folder)],
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True,
        timeout=100,
        check=True,
    )
    yield name
    docker("rmi", "-f", name)
