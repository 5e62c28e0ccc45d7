"""What a tenant may have at most, on an engine that gives its jobs what they ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE
from hodei_faults.containers import gateway
from hodei_faults.runs import Runs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
#: What each job of the test asks for.
ASKED = wire.Resources(cpu_millis=500, memory_bytes=64 << 20)


@pytest.mark.parametrize(
    ("setting", "cap", "words"),
    [
        ("tenant_max_jobs", "2", "its tenant has 2 of at most 2 jobs running"),
        ("tenant_max_cpu", "1200m", "its tenant has 1 of at most 1.2 processors in use, and it asks for 0.5"),
        ("tenant_max_memory", "150Mi", "its tenant has 128 of at most 150 MiB of memory in use, and it asks for 64"),
    ],
)
async def test_a_tenants_cap_holds_at_every_moment_and_the_others_go_on(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, setting: str, cap: str, words: str
) -> None:
    """The jobs that it has running, their processors, their memory: what would exceed one waits, and says for what."""
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "6")
    settings = make_settings(**{setting: f"small={cap}"})
    async with (
        Runs.listening(gateway()) as runs,
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        small = [await client.submit(runs.held, tenant="small", resources=ASKED) for _ in range(5)]
        await runs.until(lambda: all(runs.alive[job] for job in small[:2]))
        others = [await client.submit(runs.held, tenant="large", resources=ASKED) for _ in range(4)]
        await runs.until(lambda: all(runs.alive[job] for job in others))
        # The first that would exceed it has that written down; the others stand behind it.
        assert [each.reason for each in (await client.explain(small[2])).decisions] == [words]
        for place, job in enumerate(small[2:], 1):
            told = await client.explain(job)
            assert told.summary == f"Waits at place {place} of its tenant's queue: {words}"
        plan = await client.plan(wire.JobSpec(argv=["true"], tenant="small", resources=ASKED))
        assert (plan.provider, plan.reason) == ("", words)
        # There is room: it is nothing but the cap that keeps them waiting.
        await runs.let_go(lambda job: job in others)
        for job in others:
            async with asyncio.timeout(PATIENCE):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert [job for job in small if runs.alive[job]] == small[:2]
        # One by one, in their order.
        for number, job in enumerate(small[:3]):
            await runs.let_go(lambda each, job=job: each == job)  # type: ignore[misc]
            await runs.until(lambda number=number: runs.alive[small[number + 2]])  # type: ignore[misc]
        await runs.let_go()
        for job in small:
            async with asyncio.timeout(PATIENCE):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert max(len(now.intersection(small)) for now in runs.moments) == 2
