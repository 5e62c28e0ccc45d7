"""What was decided of jobs: written down, explained, planned without a job, replayed by another strategy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import job_pb2, provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, InvalidRequestError
from hodei_server.app import Server
from hodei_server.db.transaction import Transaction
from hodei_server.settings import Settings, SettingsError
from hodei_server.work.look import Look
from hodei_server.work.placing import Choice, Placing
from hodei_server.work.scheduler import Scheduler

MakeSettings = Callable[..., Settings]
HODEI = str(Path(sys.executable).with_name("hodei"))


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two providers: one is dear, the other names labels."""
    monkeypatch.setenv("HODEI_PROVIDER_DEAR_PRICE_WORKER_HOUR", "3600")
    monkeypatch.setenv("HODEI_PROVIDER_CHEAP_PRICE_WORKER_HOUR", "36,kind=rare:7200")
    monkeypatch.setenv("HODEI_PROVIDER_DEAR_LABELS", "disk=fast")
    monkeypatch.setenv("HODEI_PROVIDER_DEAR_PLACING_ANNOTATIONS", "disk")


@pytest.fixture
async def pair(make_settings: MakeSettings) -> AsyncIterator[tuple[Server, Client]]:
    """Return a server with both."""
    settings = make_settings(
        providers="cheap=process,dear=process", tenant_max_jobs="small=1", tenant_max_cpu="small=1"
    )
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        yield server, client


async def hodei(server: Server, *arguments: str) -> str:
    """Run the command; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        HODEI, "--server", server.address.target, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def waits(client: Client, job: str) -> job_pb2.Decision:
    """Return the first decision of a job that waits, once it is written down."""
    async with asyncio.timeout(30):
        while not (found := list((await client.explain(job)).decisions)):
            await asyncio.sleep(0.05)
    return found[-1]


async def test_each_strategy_places_the_same_job_where_its_inputs_say(pair: tuple[Server, Client]) -> None:
    """By price, by labels, by annotations under keys that a provider declares; recorded with inputs and cost."""
    _, client = pair
    for fields, provider in (
        ({"strategy": wire.STRATEGY_LOWEST_COST}, "cheap"),
        ({"strategy": wire.STRATEGY_LOWEST_COST, "labels": {"kind": "rare"}}, "dear"),
        ({"strategy": wire.STRATEGY_LABELS, "preferred_labels": {"disk": "fast"}}, "dear"),
        ({"strategy": wire.STRATEGY_LABELS, "annotations": {"disk": "fast"}}, "dear"),
        ({"strategy": wire.STRATEGY_LABELS}, "cheap"),
    ):
        job = await client.submit(["sleep", "0.3"], **fields)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        (decision,) = (await client.explain(job)).decisions
        (attempt,) = (await client.get(job)).attempts
        assert decision.provider == attempt.provider == provider
        assert decision.attempt_number == 1
        assert [each.provider for each in decision.candidates] == [
            provider,
            {"cheap": "dear", "dear": "cheap"}[provider],
        ]
        rate = decision.candidates[0].inputs.cost_per_hour
        seconds = (attempt.end_time.ToNanoseconds() - attempt.start_time.ToNanoseconds()) / 1e9
        assert seconds > 0
        assert decision.cost == attempt.cost == pytest.approx(rate / 3600 * seconds, rel=1e-6)


async def test_a_job_that_names_a_provider_waits_for_it(pair: tuple[Server, Client]) -> None:
    """W36: nothing takes its place in silence; why is written down, and again when it has changed."""
    _, client = pair
    await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_DISABLED)
    job = await client.submit(["true"], providers=["dear"])
    decision = await waits(client, job)
    assert (decision.provider, decision.attempt_number) == ("", 0)
    assert "disabled" in decision.reason
    await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_ENABLED)
    await client.wait(job)
    assert [each.provider for each in (await client.explain(job)).decisions] == ["", "dear"]


async def test_a_failed_attempt_moves_to_another_provider_and_says_so(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W28, W36: the cheapest can launch nothing; the job goes elsewhere, though the strategy likes that less."""
    monkeypatch.setenv("HODEI_PROVIDER_CHEAP_WORKER_COMMAND", str(tmp_path / "nothing"))
    settings = make_settings(providers="cheap=process,dear=process", strategy="lowest-cost")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert [attempt.provider for attempt in (await client.get(job)).attempts] == ["cheap", "dear"]
        found = await client.explain(job)
        moved = "moved from provider cheap, where attempt 1 failed"
        assert found.decisions[-1].reason == moved
        assert any(moved in event.reason for event in found.events)
        health = {each.provider: each.inputs.health for each in found.providers}
        assert health["cheap"] < health["dear"]
        # By the same strategy it would be moved again: a provider that had room and was cheaper had failed it.
        file = tmp_path / "decisions.json"
        file.write_text(await hodei(server, "place", "--recorded"))
        shown = await hodei(server, "place", "--replay", str(file), "--strategy", "lowest-cost", "-o", "json")
        assert (json.loads(shown)["decisions"], json.loads(shown)["changed"]) == (2, 0)


async def test_a_tenant_has_no_more_jobs_running_than_its_cap(pair: tuple[Server, Client]) -> None:
    """The next one waits, and says for what."""
    _, client = pair
    first = await client.submit(["sleep", "600"], tenant="small")
    second = await client.submit(["true"], tenant="small")
    assert "1 of at most 1 jobs" in (await waits(client, second)).reason
    plan = await client.plan(wire.JobSpec(argv=["true"], tenant="small"))
    assert (plan.provider, "1 of at most 1 jobs" in plan.reason) == ("", True)
    assert (await client.plan(wire.JobSpec(argv=["true"]))).provider
    await client.cancel(first, force=True)
    assert (await client.wait(second)).state == wire.JOB_STATE_SUCCEEDED
    plan = await client.plan(wire.JobSpec(argv=["true"], tenant="small", resources=wire.Resources(cpu_millis=2000)))
    assert (plan.provider, "can never run: its tenant has 0 of at most 1 processors" in plan.reason) == ("", True)


async def test_of_each_tenant_it_is_written_down_why_its_jobs_wait(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that has all there is, while another, whose turn comes first, has more jobs than one look sees."""
    monkeypatch.setenv("HODEI_PROVIDER_CHEAP_MAX_WORKERS", "1")
    monkeypatch.setenv("HODEI_PROVIDER_DEAR_MAX_WORKERS", "1")
    settings = make_settings(providers="cheap=process,dear=process")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for _ in range(2):
            await client.submit(["sleep", "600"], tenant="busy")
        for _ in range(25):
            await client.submit(["true"], tenant="crowd")
        job = await client.submit(["true"], tenant="busy")
        assert "1 of at most 1 workers" in (await waits(client, job)).reason


async def test_one_look_sees_no_more_jobs_however_many_tenants_there_are(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tenant has the same share of them, and all have their turn."""
    monkeypatch.setattr("hodei_server.work.turns.MOST_LOOKED_AT", 12)
    looks: list[int] = []
    give, choose = Scheduler._give, Placing.choose

    def look(self: Scheduler, tx: Transaction, connected: frozenset[str]) -> Look:
        looks.append(0)
        return give(self, tx, connected)

    def counted(self: Placing, spec: wire.JobSpec, tenant: str, **rest: Any) -> Choice:
        looks[-1] += 1
        return choose(self, spec, tenant, **rest)

    monkeypatch.setattr(Scheduler, "_give", look)
    monkeypatch.setattr(Placing, "choose", counted)
    settings = make_settings(providers="cheap=process,dear=process")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_DISABLED)
        for number in range(30):
            await client.submit(["true"], providers=["dear"], tenant=f"tenant-{number % 3}")
        job = await client.submit(["true"], tenant="tenant-0")
        async with asyncio.timeout(60):
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert max(looks) == 12


async def test_the_command_plans_records_and_replays(pair: tuple[Server, Client], tmp_path: Path) -> None:
    """Nothing is submitted by a plan; a replay prints what would have changed in cost and waiting."""
    server, client = pair
    plan = json.loads(
        await hodei(server, "place", "--dry-run", "-o", "json", "--strategy", "lowest-cost", "--", "true")
    )
    assert plan["provider"] == "cheap"
    assert "would go to cheap by lowest-cost" in await hodei(
        server, "place", "--dry-run", "--strategy", "lowest-cost", "--", "true"
    )
    assert [job async for job in client.list()] == []
    job = await client.submit(["sleep", "0.2"], strategy=wire.STRATEGY_LOWEST_COST)
    await client.wait(job)
    file = tmp_path / "decisions.json"
    file.write_text(await hodei(server, "place", "--recorded"))
    shown = json.loads(await hodei(server, "place", "--replay", str(file), "--strategy", "lowest-cost", "-o", "json"))
    assert (shown["decisions"], shown["changed"]) == (1, 0)
    (recorded,) = json.loads(file.read_text())
    changed = {"cheap": {"cost_per_hour": 9999.0, "start_seconds": 2.0}, "dear": {"start_seconds": 7.5}}
    for each in recorded["candidates"]:
        each["inputs"] |= changed[each["provider"]]
    file.write_text(json.dumps([recorded]))
    shown = json.loads(await hodei(server, "place", "--replay", str(file), "--strategy", "lowest-cost", "-o", "json"))
    assert (shown["decisions"], shown["changed"], shown["start_seconds"]) == (1, 1, 5.5)
    assert shown["cost"] == pytest.approx((3600 - 9999) * recorded["ran_seconds"] / 3600)
    (change,) = shown["changes"]
    assert (change["provider"], change["would"], change["start_seconds"]) == ("cheap", "dear", 5.5)
    told = await hodei(server, "place", "--replay", str(file), "--strategy", "lowest-cost")
    assert told.splitlines()[-1] == f"1 of 1 would change: cost {shown['cost']:+g}, waiting for starts +5.5 s"


def table(lines: list[str]) -> list[dict[str, str]]:
    """Return the rows of a table, by its columns' names; the last column has the rest of each line."""
    names = lines[0].split()
    return [dict(zip(names, line.split(maxsplit=len(names) - 1), strict=True)) for line in lines[1:]]


async def test_plans_and_explanations_are_printed_as_tables(pair: tuple[Server, Client]) -> None:
    """W02: of each provider its score and what that was made of; what was decided and why, in the order of time."""
    server, client = pair
    by_cost = ("--strategy", "lowest-cost")
    out = await hodei(server, "place", "--dry-run", *by_cost, "--timeout", "30m", "--", "true")
    head, empty, *lines = out.splitlines()
    assert head.startswith("would go to cheap by lowest-cost, costing at most 18: ")
    assert empty == ""
    cheap, dear = table(lines)
    expected = {"NOW": "yes", "START": "0.3s/0", "LABELS": "0", "WHY": "it has room"}
    assert expected.items() <= cheap.items()
    assert expected.items() <= dear.items()
    assert 0.9 < float(cheap["HEALTH"]) <= 1
    assert (cheap["PROVIDER"], cheap["COST/H"], cheap["SCORE"]) == ("cheap", "36", "-36")
    assert (dear["PROVIDER"], dear["COST/H"], dear["SCORE"]) == ("dear", "3600", "-3600")
    assert cheap["FITS"] == str((await client.plan(["true"])).candidates[0].inputs.fits)
    out = await hodei(server, "place", "--dry-run", "--image", "debian", "--", "true")
    assert out.startswith("would wait by ")
    assert "costing" not in out
    assert {(row["NOW"], row["WHY"]) for row in table(out.splitlines()[2:])} == {
        ("no", "image: it runs no container images")
    }

    await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_DISABLED)
    job = await client.submit(["true"], providers=["dear"], strategy=wire.STRATEGY_LOWEST_COST)
    waiting = await waits(client, job)
    out = await hodei(server, "explain", job)
    assert out.startswith("queued: Waits at place 1 of its tenant's queue: ")
    assert f"  waits by lowest-cost: {waiting.reason}\n" in out
    await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_ENABLED)
    await client.wait(job)
    head, _, *lines = (await hodei(server, "explain", job)).splitlines()
    assert head.startswith("succeeded: ")
    end = lines.index("")
    rows = {row["PROVIDER"]: row for row in table(lines[:end])}
    assert (rows["cheap"]["NOW"], rows["cheap"]["WHY"]) == ("no", "the job names other providers")
    assert rows["dear"]["COST/H"] == "3600"
    assert rows["dear"]["START"].endswith("s/1")
    # Without their dates, and without what is told of attempts.
    told = [line[21:] for line in lines[end + 1 :] if not line.startswith("  ")]
    decided = (await client.explain(job)).decisions
    assert told[:2] == [
        f"waits by lowest-cost: {waiting.reason}",
        f"attempt 1 to dear by lowest-cost: {decided[1].reason}",
    ]
    states = [line.split()[0] for line in told[2:]]
    assert states[:3] == ["queued", "starting", "running"]
    assert "succeeded" in states


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HODEI_PROVIDER_CHEAP_PRICE_CPU_HOUR", "much"),
        ("HODEI_PROVIDER_CHEAP_PRICE_CPU_HOUR", "-1"),
        ("HODEI_PROVIDER_CHEAP_PRICE_CPU_HOUR", "1,spot:2"),
        ("HODEI_PROVIDER_CHEAP_PRICE_DAY", "1"),
        ("HODEI_TENANT_WEIGHTS", "a=0"),
        ("HODEI_TENANT_MAX_JOBS", "10"),
        ("HODEI_STRATEGY", "best"),
    ],
)
async def test_what_cannot_be_used_is_refused_at_the_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    """With a message that names the variable."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=variable):
        async with Server(make_settings(providers="cheap=process,dear=process"), ephemeral=True):
            raise AssertionError("it has started")


async def test_a_job_behind_many_that_have_no_place_has_its_turn(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one look at the queue never comes as far as to it: the next ones go on where the one before has ended."""
    monkeypatch.setattr("hodei_server.work.turns.PAGE", 4)
    monkeypatch.setattr("hodei_server.work.turns.MOST_LOOKED_AT", 4)
    settings = make_settings(providers="cheap=process,dear=process")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_DISABLED)
        for _ in range(11):
            await client.submit(["true"], providers=["dear"])
        job = await client.submit(["true"])
        async with asyncio.timeout(60):
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        # All that it has passed are where they were, the first one of them, too.
        await client.set_provider_state("dear", provider_pb2.PROVIDER_STATE_ENABLED)
        async for each in client.list():
            assert (await client.wait(each.job_id)).state == wire.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"custom_strategy": "unheard-of"}, "spec.custom_strategy.*unheard-of.*by-labels"),
        ({"providers": ["cheap", "unheard-of"]}, "spec.providers.*unheard-of.*cheap, dear"),
    ],
)
async def test_names_that_there_are_none_of_are_refused(
    pair: tuple[Server, Client], fields: dict[str, Any], words: str
) -> None:
    """W38: a strategy, a provider; by the field's name, with what there is, in a submission and in a plan."""
    _, client = pair
    for call in (client.submit, client.plan):
        with pytest.raises(InvalidRequestError, match=words):
            await call(["true"], **fields)
