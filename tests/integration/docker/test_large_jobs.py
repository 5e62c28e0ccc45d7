"""A large job among small ones on one engine: it is not passed for ever, and holds nothing for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import docker, gateway
from hodei_faults.runs import Runs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


@pytest.mark.parametrize(
    ("slip", "hold", "passes"),
    [
        pytest.param("1h", "1h", True, id="slips-past"),
        pytest.param("0s", "1h", False, id="waits-behind"),
        pytest.param("0s", "10s", True, id="has-its-turn-after-a-while"),
    ],
)
async def test_small_jobs_slip_past_a_large_one_for_as_long_as_settings_say(
    make_settings: MakeSettings, slip: str, hold: str, *, passes: bool
) -> None:
    """Then room is kept for it, on one provider and for a while; another one takes what it can at once."""
    memory = int(json.loads(docker("info", "--format", "{{json .MemTotal}}"))) >> 20 << 20
    settings = make_settings(providers="process,docker", slip=slip, slip_hold=hold)

    def part(percent: int) -> wire.Resources:
        return wire.Resources(memory_bytes=memory * percent // 100)

    async with (
        Runs.listening(gateway()) as runs,
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):

        async def waits(job: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while not any("are left" in each.reason for each in (await client.explain(job)).decisions):
                    await asyncio.sleep(0.05)

        first = await client.submit(runs.held, resources=part(60))
        await runs.until(lambda: runs.alive[first])
        large = await client.submit(runs.held, resources=part(80))
        await waits(large)
        small = await client.submit(runs.held, resources=part(10))
        if passes:
            await runs.until(lambda: runs.alive[small])
        else:
            await waits(small)
        free = await client.submit(runs.held)
        await runs.until(lambda: runs.alive[free])
        assert (await client.get(free)).attempts[0].provider == "process"
        assert not runs.begun[large]
        assert bool(runs.begun[small]) is passes
        await runs.let_go(lambda job: job == first)
        await runs.until(lambda: runs.alive[large])
        # Beside it there is room for a small one, which has waited for no more than that.
        await runs.until(lambda: runs.alive[small])
        waited = [each for each in (await client.explain(small)).decisions if not each.provider]
        assert bool(waited) is (slip == "0s")
        await runs.let_go()
        for job in (large, small, free):
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
