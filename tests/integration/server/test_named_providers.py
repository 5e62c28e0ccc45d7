"""Several process providers of one server, from its configuration file; what an operator says of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults.ports import fixed_ports
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
TWO = """
[providers.fast]
kind = "process"
max_workers = 3
labels = { disk = "ssd" }

[providers.slow]
kind = "process"
max_workers = 1
labels = { disk = "tape" }
"""


@pytest.fixture
def two(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Return what makes settings with two providers."""
    file = tmp_path / "hodei.toml"
    file.write_text(TWO)
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(file))
    return make_settings


async def where(client: Client, job: str) -> str:
    """Return the folder that a job has told."""
    return b"".join([each.data async for each in client.logs(job) if isinstance(each, Chunk)]).decode()


async def test_two_of_a_kind_have_their_own_settings_and_workers(two: MakeSettings) -> None:
    """By their names in jobs, in lists and on disk."""
    async with Server(two(), ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for name, disk in (("fast", "ssd"), ("slow", "tape")):
            job = await client.submit(["pwd"], required_labels={"disk": disk})
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            assert (await client.get(job)).attempts[0].provider == name
            assert f"/providers/{name}/workers/" in await where(client, job)
        found = {each.name: (each.kind, each.capabilities.max_workers) for each in await client.providers()}
        assert found == {"fast": ("process", 3), "slow": ("process", 1)}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (provider_pb2.PROVIDER_STATE_DRAINING, "it is draining"),
        (provider_pb2.PROVIDER_STATE_DISABLED, "it is disabled"),
    ],
)
async def test_what_an_operator_says_of_one_outlives_the_server(
    two: MakeSettings, state: provider_pb2.ProviderState.ValueType, word: str
) -> None:
    """What runs there goes on, what is new waits or goes elsewhere, and is told why, in words; until it is enabled."""
    settings = two(**fixed_ports())
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        ends = first.settings.data_dir / "ends"
        running = await client.submit(["sh", "-c", f"until [ -e {ends} ]; do sleep 0.05; done"], providers=["slow"])
        async for event in client.watch(running):
            if event.event.state == wire.JOB_STATE_RUNNING:
                break
        await client.set_provider_state("slow", state)
        waiting = await client.submit(["true"], providers=["slow"])
        elsewhere = await client.submit(["true"], providers=["slow", "fast"])
        assert (await client.wait(elsewhere)).state == wire.JOB_STATE_SUCCEEDED
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        assert {each.name: each.state for each in await client.providers()}["slow"] == state
        (verdict,) = [each for each in (await client.explain(waiting)).providers if each.provider == "slow"]
        assert verdict.reason.startswith(word)
        ends.touch()
        assert (await client.wait(running)).state == wire.JOB_STATE_SUCCEEDED
        assert len((await client.get(running)).attempts) == 1
        await client.set_provider_state("slow", provider_pb2.PROVIDER_STATE_ENABLED)
        assert (await client.wait(waiting)).state == wire.JOB_STATE_SUCCEEDED


async def test_a_provider_that_is_drained_is_disabled_once_it_has_no_workers(two: MakeSettings) -> None:
    """So it is seen when it may be switched off; `hodei providers drain --wait` waits for just that."""
    async with Server(two(), ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        ends = server.settings.data_dir / "ends"
        running = await client.submit(["sh", "-c", f"until [ -e {ends} ]; do sleep 0.05; done"], providers=["slow"])
        async for event in client.watch(running):
            if event.event.state == wire.JOB_STATE_RUNNING:
                break
        hodei = str(Path(sys.executable).with_name("hodei"))
        command = (hodei, "--server", server.address.target, "providers", "drain", "--wait", "slow")
        drain = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(60):
            while (found := await client.provider("slow")).state != provider_pb2.PROVIDER_STATE_DRAINING:
                await asyncio.sleep(0.05)
        assert (found.workers, drain.returncode) == (1, None)
        ends.touch()
        _, told = await drain.communicate()
        assert (drain.returncode, told) == (0, b"hodei: slow is disabled, workers: 0\n")
        assert (await client.wait(running)).state == wire.JOB_STATE_SUCCEEDED
        # One that has none is disabled at once.
        await client.set_provider_state("fast", provider_pb2.PROVIDER_STATE_DRAINING)
        async with asyncio.timeout(60):
            while (await client.provider("fast")).state != provider_pb2.PROVIDER_STATE_DISABLED:
                await asyncio.sleep(0.05)
