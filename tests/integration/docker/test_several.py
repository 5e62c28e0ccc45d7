"""Several providers of one kind, from the configuration file, on the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import container_of, docker, inspect
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.provider import DockerProvider
from hodei_server.app import Server
from hodei_server.settings import Settings, load_settings

MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]

TWO = """
[providers.large]
kind = "docker"
default_memory = "512Mi"
container_labels = { team = "large" }
labels = { size = "large" }

[providers.small]
kind = "docker"
default_memory = "64Mi"
max_workers = 1
container_labels = { team = "small" }
labels = { size = "small" }
"""
WAIT = "touch /mnt/shared/$0; while [ ! -e /mnt/shared/go ]; do sleep 0.05; done"


@pytest.fixture
def two(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return what makes settings with two providers on this engine."""
    file = tmp_path / "hodei.toml"
    file.write_text(TWO)
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(file))
    return lambda **overrides: make_settings(providers="large,small", **overrides)


async def test_two_of_one_engine_have_their_own_settings_and_containers(
    two: MakeSettings, shared: Path, wait_for: WaitFor, config: DockerConfig, tmp_path: Path
) -> None:
    """W12: each takes what its labels and limits say; neither removes the other's containers as strays."""
    async with (
        Server(two(stray_grace="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        jobs = {
            "large": await client.submit(["sh", "-c", WAIT, "large"], providers=["large"]),
            "small": await client.submit(["sh", "-c", WAIT, "small"], required_labels={"size": "small"}),
        }
        await wait_for(lambda: all((shared / name).exists() for name in jobs))
        for name, memory in (("large", 512 << 20), ("small", 64 << 20)):
            found = inspect(container_of(jobs[name]))
            labels = found["Config"]["Labels"]
            assert (labels["hodei.provider"], labels["team"]) == (name, name)
            assert found["HostConfig"]["Memory"] == memory + (64 << 20)
        waiting = await client.submit(["true"], providers=["small"])
        async with asyncio.timeout(PATIENCE):
            while "at most 1 workers" not in str(await client.explain(waiting)):
                await asyncio.sleep(0.05)
        installation = (server.settings.data_dir / "installation").read_text().strip()
        for name, job in jobs.items():
            async with DockerProvider(name, data_dir=tmp_path / name, config=config) as provider:
                (handle,) = await provider.list(installation)
            assert handle.data["container"] == inspect(container_of(job))["Id"]
        # Each of these sweeps would find the other's container where lists and databases were mixed up.
        stray = _stray(installation, "large")
        await wait_for(lambda: not inspect(stray))
        (shared / "go").touch()
        for job in [*jobs.values(), waiting]:
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert {each.name: each.kind for each in await client.providers()} == {"large": "docker", "small": "docker"}


def _stray(installation: str, provider: str) -> str:
    """Make a container that no database knows; return its id."""
    labels = (f"hodei.installation={installation}", f"hodei.provider={provider}", "hodei.worker=wstray")
    options = [f"--label={label}" for label in labels]
    # Made and not started: it may be taken away as soon as it is there.
    return docker("create", "--name", "hodei-wstray", *options, "busybox:stable", "sleep", "600").strip()


async def test_an_engine_that_cannot_be_reached_is_told_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of several, and where it was written."""
    (tmp_path / "hodei.toml").write_text('[providers.far]\nkind = "docker"\nhost = "unix:///nowhere/docker.sock"\n')
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(tmp_path / "hodei.toml"))
    settings = load_settings({"data_dir": str(tmp_path / "data"), "listen": "127.0.0.1:0"})
    with pytest.raises(ValueError, match=r"provider far: .*nowhere.*providers\.far\.host"):
        async with Server(settings):
            raise AssertionError("it has started")
