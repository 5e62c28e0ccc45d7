"""How jobs are given out, look by look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.db.transaction import Transaction
from hodei_server.settings import Settings
from hodei_server.work.look import Look
from hodei_server.work.scheduler import Scheduler


async def test_many_places_are_given_out_in_several_transactions_one_after_the_other(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else is to be written has its turn between them; no job waits for another reason to look."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "5")
    for name in ("work.scheduler", "loops.dispatch"):
        monkeypatch.setattr(f"hodei_server.{name}.MOST_GIVEN", 2)
    for name in ("SWEEP_SECONDS", "BEHIND_SECONDS"):
        monkeypatch.setattr(f"hodei_server.loops.dispatch.{name}", 600.0)
    looks: list[int] = []
    give = Scheduler._give

    def look(self: Scheduler, tx: Transaction, connected: frozenset[str]) -> Look:
        found = give(self, tx, connected)
        looks.append(len(found.given))
        return found

    monkeypatch.setattr(Scheduler, "_give", look)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        jobs = [await client.submit(["sleep", "600"]) for _ in range(5)]
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
        async with asyncio.timeout(60):
            while {(await client.get(job)).state for job in jobs} != {wire.JOB_STATE_RUNNING}:
                await asyncio.sleep(0.05)
    assert [given for given in looks if given] == [2, 2, 1]
