"""The real engine: skipped where there is none on a laptop, failed in CI."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import docker, leftovers
from hodei_faults.needs import need_image
from hodei_faults.servers import settings_in
from hodei_providers.docker.config import DockerConfig
from hodei_server.app import Server
from hodei_server.settings import Settings

WORKER_IMAGE = os.environ.get("HODEI_WORKER_IMAGE") or "hodei-jobs-worker:latest"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests the time to wait for a busy engine, where they don't say how much they take."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Need an engine with the worker's image."""
    need_image(WORKER_IMAGE)


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


MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def make_settings(tmp_path: Path) -> Iterator[MakeSettings]:
    """Return what makes settings for a server that has this engine only; nothing may be left of it afterwards."""

    def make(**overrides: str) -> Settings:
        return settings_in(tmp_path / "data", **{"providers": "docker", "worker_image": WORKER_IMAGE, **overrides})

    yield make
    installation = tmp_path / "data" / "installation"
    if installation.exists():
        label, end = f"hodei.installation={installation.read_text().strip()}", time.monotonic() + PATIENCE
        # What the server has asked for before it ended a busy engine may yet be about.
        while leftovers(label):
            assert time.monotonic() < end, leftovers(label)
            time.sleep(0.1)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that every container sees as /mnt/shared, for jobs and tests to wait for each other."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("HODEI_DOCKER_MOUNTS", f"{folder}:/mnt/shared")
    return folder


@pytest.fixture
async def server(make_settings: MakeSettings, shared: Path) -> AsyncIterator[Server]:  # noqa: ARG001 - a mount of it
    """Return a running server; its workers go with it."""
    async with Server(make_settings(), ephemeral=True) as running:
        yield running


@pytest.fixture
def wait_for() -> WaitFor:
    """Return what waits until something is so: a file that a job writes, a container that the engine tells of."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.05)

    return wait
