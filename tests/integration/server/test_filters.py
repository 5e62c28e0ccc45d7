"""Where a job may run at all: by region and architecture, from the settings to the attempt."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, HodeiError
from hodei_providers.architecture import architecture_names
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def test_a_job_runs_in_its_region_and_on_its_architecture_only(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W38: the others are out, in words; what nobody offers is refused by its name."""
    monkeypatch.setenv("HODEI_PROVIDER_EUROPE_REGIONS", "eu-west,eu-north")
    monkeypatch.setenv("HODEI_PROVIDER_AMERICA_REGIONS", "us-east")
    here = architecture_names(platform.machine())[0]
    settings = make_settings(providers="america=process,europe=process")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for region, name in (("eu-north", "europe"), ("us-east", "america"), ("eu-west", "europe")):
            job = await client.submit(["true"], region=region, architecture=here)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            (attempt,) = (await client.get(job)).attempts
            (decision,) = (await client.explain(job)).decisions
            assert attempt.provider == decision.provider == name
            out = [each for each in decision.candidates if each.provider != name]
            assert [(each.eligible, each.reason) for each in out] == [(False, f"region: it is not in {region}")]
        for spec, words in (
            (wire.JobSpec(argv=["true"], region="ap-south"), "region: it is not in ap-south"),
            (wire.JobSpec(argv=["true"], architecture="s390x"), f"architecture: it has {here}"),
        ):
            plan = await client.plan(spec)
            assert [(each.eligible, each.reason.startswith(words)) for each in plan.candidates] == [(False, True)] * 2
            with pytest.raises(HodeiError, match=words):
                await client.submit(spec)
