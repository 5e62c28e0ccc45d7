"""Settings of the provider, from their variables to a container of the real engine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, PreconditionError
from hodei_faults.containers import container_of, docker, inspect, set_docker
from hodei_faults.logs import read
from hodei_providers.docker.config import DockerConfig
from hodei_providers.registry import ProviderSetupError
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]
NO_RETRY = wire.RetryPolicy(max_infrastructure_retries=0)
#: Reads from a device, and stays until it is told to go on.
SCRIPT = """
head -c 3 /dev/hodei-zero | wc -c
touch /mnt/shared/started; while [ ! -e /mnt/shared/go ]; do sleep 0.05; done
"""


@pytest.fixture
def own_image(config: DockerConfig) -> Iterator[str]:
    """Return another name of the worker's image."""
    name = "hodei-test-own:1"
    docker("tag", config.worker_image, name)
    yield name
    docker("rmi", name)


async def test_what_settings_give_every_container_is_what_a_job_has(
    make_settings: MakeSettings, shared: Path, wait_for: WaitFor, own_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W37: a job that asks for nothing has the defaults, the device, the runtime and the provider's own image."""
    options = {"default_cpu": "0.5", "default_memory": "96Mi", "memory_overhead": "80Mi", "pids_limit": "77"}
    set_docker(monkeypatch, **options, tmp_size="1Mi", runtime="runc", worker_image=own_image, user="1234:5678")
    set_docker(monkeypatch, devices="/dev/zero:/dev/hodei-zero:r", container_labels="team=ops")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", SCRIPT], retry=NO_RETRY)
        await wait_for((shared / "started").exists)
        found = inspect(container_of(job))
        host = found["HostConfig"]
        (shared / "go").touch()
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await read(client, job) == b"3\n"
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, (96 + 80) << 20, 77)
    assert host["Tmpfs"]["/tmp"].endswith("size=1048576")
    assert [each["CgroupPermissions"] for each in host["Devices"]] == ["r"]
    assert host["Runtime"] == "runc"
    assert (found["Config"]["Image"], found["Config"]["User"]) == (own_image, "1234:5678")
    assert found["Config"]["Labels"]["team"] == "ops"


async def test_a_runtime_that_the_engine_lacks_ends_the_job_at_once_in_the_engines_words(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W04, W43: no retry could get one; nothing of a container is left."""
    set_docker(monkeypatch, runtime="hodei-nowhere")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"])
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_UNSCHEDULABLE)
        assert [each.number for each in (await client.get(job)).attempts] == [1]
        assert "hodei-nowhere" in outcome.message


async def test_a_job_is_placed_by_the_regions_and_the_labels_that_are_set(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W38: one for another region is refused; clients see what the provider costs."""
    set_docker(monkeypatch, regions="eu,asia", labels="disk=fast", cost_per_hour="1.5")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        with pytest.raises(PreconditionError, match="region"):
            await client.submit(["true"], region="us")
        job = await client.submit(["true"], region="asia", required_labels={"disk": "fast"})
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        (provider,) = await client.providers()
        offered = provider.capabilities
        assert (list(offered.regions), dict(offered.labels), offered.cost_per_hour) == (
            ["eu", "asia"],
            {"disk": "fast"},
            1.5,
        )


@pytest.fixture
def silent() -> Iterator[str]:
    """Return where somebody listens who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        yield f"tcp://{host}:{port}"


async def test_an_engine_that_never_answers_is_not_waited_for_longer_than_is_set(
    make_settings: MakeSettings, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W16: the usual patience with it is longer than this test's."""
    set_docker(monkeypatch, host=silent, api_timeout="200ms")
    async with asyncio.timeout(DockerConfig().api_timeout - 5):
        with pytest.raises(ProviderSetupError, match="did not answer in time"):
            async with Server(make_settings(), ephemeral=True):
                pass
