"""Warm workers: there before the job, anybody's until the first, replaced in the background, never leaked."""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.engine import RowMapping

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.ports import fixed_ports
from hodei_server.app import Server
from hodei_server.loops.leases import Leases
from hodei_server.settings import Settings, SettingsError
from hodei_server.work import pools

MakeSettings = Callable[..., Settings]


LookAgain = Callable[[], Awaitable[None]]


@pytest.fixture
def look_again(monkeypatch: pytest.MonkeyPatch) -> LookAgain:
    """Return what waits until pools, and workers that may be let go, were looked at three times more."""
    looks: collections.Counter[str] = collections.Counter()
    fill, check = pools.Pools.fill, Leases.check

    async def counted_fill(self: pools.Pools) -> None:
        await fill(self)
        looks["fill"] += 1

    async def counted_check(self: Leases, rows: Sequence[RowMapping]) -> None:
        await check(self, rows)
        looks["check"] += 1

    monkeypatch.setattr(pools.Pools, "fill", counted_fill)
    monkeypatch.setattr(Leases, "check", counted_check)

    async def again() -> None:
        before = looks.copy()
        async with asyncio.timeout(60):
            while min(looks[name] - before[name] for name in ("fill", "check")) < 3:
                await asyncio.sleep(0.02)

    return again


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two workers wait, on a provider that holds three."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "2")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "3")


async def warm(client: Client, count: int) -> set[str]:
    """Wait until so many workers are warm and no other is there or on its way; return their ids."""
    async with asyncio.timeout(60):
        while True:
            workers = [worker async for worker in client.workers()]
            found = {worker.worker_id for worker in workers if worker.warm and worker.connected}
            if len(found) == len(workers) == count:
                return found
            await asyncio.sleep(0.02)


async def held(client: Client, *, busy: int, warm: int) -> None:
    """Wait until there are so many workers with a job and so many warm ones, and no others."""
    async with asyncio.timeout(60):
        while True:
            workers = [worker async for worker in client.workers()]
            running = sum(worker.state == provider_pb2.WORKER_STATE_BUSY for worker in workers)
            if (running, sum(worker.warm for worker in workers), len(workers)) == (busy, warm, busy + warm):
                return
            await asyncio.sleep(0.02)


async def worker_of(client: Client, job: str) -> str:
    """Return the worker of a job's only attempt."""
    (attempt,) = (await client.get(job)).attempts
    return attempt.worker_id


async def test_the_command_shows_which_workers_are_warm(make_settings: MakeSettings) -> None:
    """`hodei workers` and its JSON tell them from those that have run something."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        running = await client.submit(["sleep", "600"])
        async for event in client.watch(running):
            if event.event.state == wire.JOB_STATE_RUNNING:
                break
        ready = {each.worker_id async for each in client.workers() if each.warm and each.connected}
        async with asyncio.timeout(60):
            while len(ready) < 2:
                await asyncio.sleep(0.05)
                ready = {each.worker_id async for each in client.workers() if each.warm and each.connected}
        hodei = (str(Path(sys.executable).with_name("hodei")), "--server", server.address.target, "workers")
        told = []
        for arguments in ((), ("-o", "json")):
            process = await asyncio.create_subprocess_exec(*hodei, *arguments, stdout=asyncio.subprocess.PIPE)
            told.append((await process.communicate())[0].decode())
        lines = [line.split() for line in told[0].splitlines()[1:]]
        assert {line[0] for line in lines if line[2] == "warm"} == ready
        assert [line[2] for line in lines if line[0] not in ready] == ["busy"]
        assert {each["worker_id"] for each in json.loads(told[1]) if each.get("warm")} == ready


async def test_a_job_takes_a_ready_worker_and_another_takes_its_place(make_settings: MakeSettings) -> None:
    """W44: what is starting counts, so there are never more than were asked for; a worker's job binds it."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        ready = await warm(client, 2)
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        used = await worker_of(client, job)
        assert used in ready
        assert len(await warm(client, 2) - ready) == 1
        everyone = [worker async for worker in client.workers(include_gone=True)]
        assert len(everyone) == 3
        assert [worker.tenant for worker in everyone if worker.worker_id == used] == ["default"]


async def test_a_worker_stays_with_the_tenant_of_its_first_job(make_settings: MakeSettings) -> None:
    """Reused for that tenant's jobs; another tenant gets one that has run nothing."""
    async with (
        Server(make_settings(worker_max_jobs="0"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 2)
        jobs: dict[str, list[str]] = {}
        for name in ("a", "b", "a"):
            job = await client.submit(["true"], tenant=name)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            jobs.setdefault(name, []).append(await worker_of(client, job))
        assert jobs["a"][0] == jobs["a"][1] != jobs["b"][0]


async def test_idle_workers_give_way_to_a_job_that_can_have_none_of_them(make_settings: MakeSettings) -> None:
    """The pool waits, too: a full provider's next place is the job's."""
    async with (
        Server(make_settings(worker_max_jobs="0"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        for name in ("a", "b", "c", "d"):
            job = await client.submit(["true"], tenant=name)
            async with asyncio.timeout(60):
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


async def test_the_next_server_has_the_pool_of_the_one_before(make_settings: MakeSettings) -> None:
    """Warm workers come back with their sessions; an ephemeral server leaves none behind."""
    settings = make_settings(**fixed_ports())
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        ready = await warm(client, 2)
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        assert await warm(client, 2) == ready
        provider = second.settings.data_dir / "providers" / "process" / "workers"
    assert list(provider.iterdir()) == []


async def test_a_pool_starts_no_more_than_its_most(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, look_again: LookAgain
) -> None:
    """W44: busy ones count. Jobs have their workers all the same: it bounds the pool, not them."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_MAX_WORKERS", "8")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MAX", "3")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await held(client, busy=0, warm=2)
        jobs = [await client.submit(["sleep", "600"]) for _ in range(2)]
        await held(client, busy=2, warm=1)
        await look_again()
        await held(client, busy=2, warm=1)
        jobs += [await client.submit(["sleep", "600"]) for _ in range(2)]
        await held(client, busy=4, warm=0)
        await look_again()
        await held(client, busy=4, warm=0)
        for job in jobs[:2]:
            await client.cancel(job, force=True)
        await held(client, busy=2, warm=1)


@pytest.mark.parametrize(("own", "of_all", "stay"), [("0s", "1h", False), ("1h", "0s", True)])
async def test_workers_beyond_the_pool_go_once_they_have_waited_for_its_idle_timeout(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    look_again: LookAgain,
    own: str,
    of_all: str,
    *,
    stay: bool,
) -> None:
    """Down to what the pool is to have; the provider's own timeout wins over that of all."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "1")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_IDLE_TIMEOUT", own)
    settings = make_settings(worker_max_jobs="0", worker_idle_timeout=of_all)
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        used = set()
        await held(client, busy=0, warm=1)
        for tenant in ("a", "b"):
            job = await client.submit(["true"], tenant=tenant)
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            used.add(await worker_of(client, job))
        assert len(used) == 2
        if not stay:
            assert not await warm(client, 1) & used
            return
        await look_again()
        assert used < {worker.worker_id async for worker in client.workers()}


@pytest.mark.parametrize("state", [provider_pb2.PROVIDER_STATE_DRAINING, provider_pb2.PROVIDER_STATE_DISABLED])
async def test_a_provider_that_takes_nothing_keeps_no_pool(
    make_settings: MakeSettings, state: provider_pb2.ProviderState.ValueType
) -> None:
    """Its warm workers go at once, whatever the idle timeout, and none are started until it is enabled again."""
    async with (
        Server(make_settings(worker_idle_timeout="1h"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 2)
        await client.set_provider_state("process", state)
        await warm(client, 0)
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
        await warm(client, 2)


async def test_a_worker_that_cannot_be_launched_is_tried_again_with_patience(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, look_again: LookAgain
) -> None:
    """W28, W44: after a failure the provider is left alone for a while, and nothing of the attempt is left."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", str(tmp_path / "nothing"))
    monkeypatch.setattr(pools, "FIRST_BACK_OFF_SECONDS", 3600.0)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 0)
        await look_again()
        assert len([each async for each in client.workers(include_gone=True)]) == 2
    assert list((server.settings.data_dir / "providers" / "process" / "workers").iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "-1", "lies between 0"),
        ("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "many", "can't be used"),
        ("HODEI_PROVIDER_PROCESS_POOL_MAX", "1", "at least POOL_MIN_READY"),
        ("HODEI_PROVIDER_PROCESS_POOL_IDLE_TIMEOUT", "soon", "can't be used"),
        ("HODEI_PROVIDER_PROCESS_POOL_SIZE", "2", "no such option"),
        ("HODEI_PROVIDER_ELSEWHERE_POOL_MAX", "2", "no provider"),
    ],
)
async def test_a_pool_that_cannot_be_is_refused_at_the_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str
) -> None:
    """With a message that names the variable."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=f"{variable}.*{complaint}"):
        async with Server(make_settings(), ephemeral=True):
            raise AssertionError("it has started")


async def test_the_pool_follows_what_jobs_take_and_goes_back(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From none to as many as jobs took of late; once that is past, what waits is let go."""
    ahead = 0.0
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "0")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MAX_READY", "2")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_FOLLOW", "1h")
    async with (
        Server(make_settings(worker_idle_timeout="0s"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 0)
        jobs = [await client.submit(["true"]) for _ in range(3)]
        await asyncio.gather(*map(client.wait, jobs))
        await warm(client, 2)
        ahead = 3600.0
        await warm(client, 0)


async def test_a_schedule_wins_over_the_pools_own_number(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is open all day, every day."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_SCHEDULE", "00:00-24:00=1")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        await warm(client, 1)


async def test_a_pool_that_its_provider_can_never_fill_is_refused(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable, and with the provider's reason."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOLS", '[{"image": "debian", "min_ready": 1}]')
    with pytest.raises(SettingsError, match=r"PROCESS_POOLS\[0\].*no container images"):
        async with Server(make_settings(), ephemeral=True):
            raise AssertionError("it has started")
