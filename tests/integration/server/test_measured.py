"""What is measured of providers and attempts: how long starts take, what an attempt has cost."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from hodei_client import Client, ClientSettings
from hodei_faults.starts import estimates_agree, inputs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
#: Of an hour, so that a second of it is a thousand.
DEAR = "3600000"
GIB = 1 << 30
#: Uses the processor for a moment, and some memory.
WORK = "b = bytearray(64 << 20)\nfor i in range(3_000_000): pass"


async def test_what_was_measured_of_starts_the_next_server_knows(make_settings: MakeSettings) -> None:
    """What was declared gives way to what was seen, of each provider by itself, and a restart forgets none of it."""
    settings = make_settings(providers="one=process,other=process")
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        declared = await inputs(client)
        assert {(each.start_seconds, each.start_samples) for each in declared.values()} == {(0.3, 0)}
        for _ in range(3):
            await client.wait(await client.submit(["true"], providers=["one"]))
        assert await estimates_agree(client, settings.data_dir) == {("one", ""): 3}
        before = await inputs(client)
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        after = await inputs(client)
        assert after["one"].start_seconds == pytest.approx(before["one"].start_seconds, rel=1e-9)
        assert (after["one"].start_samples, after["other"].start_samples) == (3, 0)
        # It goes on from there.
        await client.wait(await client.submit(["true"], providers=["one"]))
        assert await estimates_agree(client, settings.data_dir) == {("one", ""): 4}


async def test_an_attempt_costs_what_it_used_for_as_long_as_it_ran(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each of the prices: the hour, the processors and the memory that it has used, as it asked for none."""
    for name in ("worker", "cpu", "gib"):
        monkeypatch.setenv(f"HODEI_PROVIDER_{name.upper()}_PRICE_{name.upper()}_HOUR", DEAR)
    settings = make_settings(providers="worker=process,cpu=process,gib=process")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        for name in ("worker", "cpu", "gib"):
            job = await client.submit([sys.executable, "-c", WORK], providers=[name])
            outcome = await client.wait(job)
            (attempt,) = (await client.get(job)).attempts
            (decision,) = (await client.explain(job)).decisions
            seconds = (attempt.end_time.ToNanoseconds() - attempt.start_time.ToNanoseconds()) / 1e9
            processor, gibs = outcome.cpu_time.ToNanoseconds() / 1e9, outcome.peak_memory_bytes / GIB
            assert processor > 0
            assert gibs > 64 / 1024
            thousands = {"worker": seconds, "cpu": processor, "gib": gibs * seconds}[name]
            assert decision.cost == attempt.cost == pytest.approx(1000 * thousands, rel=1e-6)
            assert decision.ran_seconds == pytest.approx(seconds, rel=1e-9)


async def test_a_job_whose_start_and_end_are_written_down_at_once_has_run_and_has_cost_something(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded is what the worker measured, and what is told is what is recorded: cost, decision, attempt."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_WORKER_HOUR", DEAR)
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_CPU_HOUR", DEAR)
    # Nothing is written down before the end.
    monkeypatch.setattr("hodei_server.work.reports.START_SECONDS", 600.0)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        for command in (["true"], ["sleep", "0.5"]):
            job = await client.submit(command)
            outcome = await client.wait(job)
            told = await client.get(job)
            (attempt,) = told.attempts
            (decision,) = (await client.explain(job)).decisions
            seconds = (attempt.end_time.ToNanoseconds() - attempt.start_time.ToNanoseconds()) / 1e9
            assert seconds > (0.5 if "sleep" in command else 0.0)
            assert attempt.create_time.ToNanoseconds() <= attempt.start_time.ToNanoseconds()
            assert told.start_time == attempt.start_time
            assert decision.ran_seconds == pytest.approx(seconds, rel=1e-9)
            cost = 1000 * (seconds + outcome.cpu_time.ToNanoseconds() / 1e9)
            assert decision.cost == attempt.cost == pytest.approx(cost, rel=1e-6)
