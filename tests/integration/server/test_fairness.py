"""What settings promise of tenants' shares holds at every moment of a real server."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

import pytest

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.runs import Runs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def test_tenants_have_their_shares_of_what_runs_whichever_of_them_ends(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three to one by their weights, though the lighter one was first; all is the other's once one has no more jobs."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "8")
    settings = make_settings(tenant_weights="heavy=3,light=1")
    async with (
        Runs.listening("127.0.0.1") as runs,
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        owners = {
            await client.submit(runs.held, tenant=tenant): tenant for tenant in ("light", "heavy") for _ in range(12)
        }
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
        ended: set[str] = set()

        def shares() -> dict[str, int]:
            return collections.Counter(owners[job] for job, attempts in runs.alive.items() if attempts)

        async def end(tenant: str) -> None:
            ended.add(next(job for job in owners if runs.alive[job] and owners[job] == tenant))
            await runs.let_go(ended.__contains__)
            await runs.until(lambda: not any(runs.alive[job] for job in ended))
            await runs.until(lambda: sum(shares().values()) == 8)

        await runs.until(lambda: sum(shares().values()) == 8)
        for tenant in ("heavy", "light", "heavy", "heavy", "light", "heavy", "heavy"):
            assert shares() == {"heavy": 6, "light": 2}
            await end(tenant)
        # The heavy one's last job has begun: what ends now makes room for the light one, whoever had it.
        assert [len(runs.begun[job]) for job in owners if owners[job] == "heavy"].count(1) == 11
        await end("light")
        assert shares() == {"heavy": 6, "light": 2}
        await end("heavy")
        assert shares() == {"heavy": 6, "light": 2}
        await end("heavy")
        assert shares() == {"heavy": 5, "light": 3}
        await runs.let_go()
        for job in owners:
            async with asyncio.timeout(60):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert max(len(now) for now in runs.moments) == 8


@pytest.mark.parametrize(("ageing", "first"), [("1h", "important"), ("1ms", "old")])
async def test_a_point_of_priority_is_worth_as_much_waiting_as_the_setting_says(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, ageing: str, first: str
) -> None:
    """An important job goes before an old one, unless that has waited for longer than its points are worth."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "1")
    settings = make_settings(priority_ageing=ageing)
    async with (
        Runs.listening("127.0.0.1") as runs,
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        jobs = {"old": await client.submit(runs.held)}
        submitted = (await client.get(jobs["old"])).submit_time.ToMicroseconds()
        while True:
            jobs["important"] = await client.submit(runs.held, priority=2)
            if (await client.get(jobs["important"])).submit_time.ToMicroseconds() > submitted + 2000:
                break
            await client.cancel(jobs["important"])
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
        await runs.let_go()
        for job in jobs.values():
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert next(iter(runs.begun)) == jobs[first]
