"""The same job on two real engines: it goes where what was measured of them says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def test_each_strategy_places_the_same_job_where_the_engines_say(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By starts that were measured on both, by what they have left, by prices; W36: nothing else decides."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_WORKER_HOUR", "5")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "2")
    settings = make_settings(providers="process,docker")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for name in ("process", "docker"):
            await client.wait(await client.submit(["true"], providers=[name]))
        for strategy, name in (
            (wire.STRATEGY_FASTEST_STARTUP, ""),
            (wire.STRATEGY_LOWEST_COST, "docker"),
            (wire.STRATEGY_MOST_CAPACITY, "docker"),
        ):
            job = await client.submit(["true"], strategy=strategy)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (decision,) = (await client.explain(job)).decisions
            inputs = {each.provider: each.inputs for each in decision.candidates}
            assert all(each.start_samples >= 1 and each.start_seconds > 0 for each in inputs.values())
            # Which one starts the fastest is up to the machine, and to what else it does.
            assert decision.provider == (name or min(inputs, key=lambda each: inputs[each].start_seconds))
