"""What becomes of jobs whose workers a provider will never launch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


@pytest.mark.parametrize(
    ("broken", "disabled", "tried"),
    [
        (["cheap", "dear"], "dear", ["cheap"]),
        (["cheap", "dear"], "", ["cheap", "dear"]),
        (["cheap"], "dear", ["cheap"]),
    ],
)
async def test_a_job_that_no_provider_will_ever_launch_ends_at_once_with_the_last_ones_words(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    broken: list[str],
    disabled: str,
    tried: list[str],
) -> None:
    """Each is asked once that may have it, and no retry of the infrastructure's is spent on what nothing heals."""
    for name in broken:
        monkeypatch.setenv(f"HODEI_PROVIDER_{name.upper()}_WORKER_COMMAND", str(tmp_path / f"nothing-{name}"))
    settings = make_settings(providers="cheap=process,dear=process", strategy="lowest-cost")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        if disabled:
            await client.set_provider_state(disabled, provider_pb2.PROVIDER_STATE_DISABLED)
        job = await client.submit(["true"])
        outcome = await client.wait(job)
        assert [each.provider for each in (await client.get(job)).attempts] == tried
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_UNSCHEDULABLE)
        assert f"nothing-{tried[-1]}" in outcome.message
