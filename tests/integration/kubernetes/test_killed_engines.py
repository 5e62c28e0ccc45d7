"""An engine that is really killed under load, beside two that work: commands do it that variables of the tests name.

All that runs there is harmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings, LogPlace
from hodei_faults.cluster import PATIENCE, nothing_left, run_command, start_again, until
from hodei_faults.containers import container_of, inspect, leftovers
from hodei_faults.logs import read, until_said
from hodei_faults.needs import lacks, need_image
from hodei_faults.runs import LINES, Runs
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
#: How many workers an engine may have, and how many it has when it is killed: some are on their way just then.
PLACES, RUNNING = 8, 6
SOON = wire.RetryPolicy(max_infrastructure_retries=50)
SOON.initial_backoff.FromMilliseconds(100)
SOON.max_backoff.FromMilliseconds(100)


@dataclasses.dataclass(frozen=True)
class Accident:
    """What happens to an engine.

    :param stop: the variable that names the command which does it; `start` of the one that starts it again.
    :param die: how many of the workers that run there die with it.
    :param confirmed: what becomes of these is known while the engine is away.
    :param outlives: what runs there when it starts again goes on.
    """

    provider: str
    stop: str
    start: str
    die: int = 0
    confirmed: bool = False
    outlives: bool = False


ACCIDENTS = {
    # Containers outlive a daemon that is killed, until the next one starts. Some die, as of a machine that falters.
    "docker-killed": Accident("docker", "HODEI_TEST_ENGINE_KILL", "HODEI_TEST_ENGINE_START", die=2),
    # A daemon that is stopped asks its containers to end: their workers say what has become of the jobs.
    "docker-stopped": Accident(
        "docker", "HODEI_TEST_ENGINE_STOP", "HODEI_TEST_ENGINE_START", die=RUNNING, confirmed=True
    ),
    # Pods need no API to run.
    "kubernetes-killed": Accident("kubernetes", "HODEI_TEST_API_STOP", "HODEI_TEST_API_START", outlives=True),
}


@pytest.fixture(params=ACCIDENTS)
def accident(request: pytest.FixtureRequest, worker_image: str) -> Accident:
    """Return what happens, where the machine has what that takes."""
    what = ACCIDENTS[request.param]
    missing = {what.stop, what.start} - os.environ.keys()
    if missing:
        lacks(f"{' and '.join(sorted(missing))} not set")
    need_image(worker_image)
    return what


@pytest.fixture
async def runs(orders: Any) -> AsyncIterator[Runs]:
    """Return what hears jobs on all three engines."""
    async with Runs.listening(orders.host) as heard:
        yield heard


@pytest.mark.timeout(900)
async def test_a_load_moves_away_from_an_engine_that_is_killed_and_nothing_runs_twice(  # noqa: PLR0917 - fixtures
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    accident: Accident,
    runs: Runs,
    api: Any,
    namespace: str,
) -> None:
    """W08, W14, W28, W36: what is lost or on its way there moves and says so, the rest runs on; who names it waits."""
    monkeypatch.setenv("HODEI_DOCKER_ENABLED", "true")
    for name, most, price in (
        ("process", "MAX_WORKERS", "5"),
        ("docker", "MAX_WORKERS", "3"),
        ("kubernetes", "MAX_PODS", "3"),
    ):
        # The cheapest of all: all jobs prefer it.
        places, hour = (PLACES, "1") if name == accident.provider else (4, price)
        monkeypatch.setenv(f"HODEI_PROVIDER_{name.upper()}_{most}", str(places))
        monkeypatch.setenv(f"HODEI_PROVIDER_{name.upper()}_PRICE_WORKER_HOUR", hour)
    monkeypatch.setattr("hodei_server.loops.leases.ORPHAN_MARGIN", 2.0)
    settings = make_settings(
        providers="process,docker,kubernetes",
        strategy="lowest-cost",
        lease="1s",
        orphan_after="20s",
        start_timeout="90s",
    )
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        contextlib.AsyncExitStack() as ends,
    ):
        # However this ends: what is left there is removed with the server.
        ends.push_async_callback(start_again, accident.start, api)
        load = Load(client, runs, accident.provider)
        there = await load.run(RUNNING)
        dying, staying = there[: accident.die], there[accident.die :]
        # Two of these are on their way there when it dies, and as many as there is room for elsewhere.
        moving = await load.submit(10)
        await load.sent_to_it(RUNNING + 2)
        gone = await happen(accident, dying)
        named = await load.submit(2, accident.provider)
        moving += await load.submit(2, "process", accident.provider)

        await load.said_to_be_out()
        # What is left has not the room for all at once.
        await runs.let_go(lambda job: job in moving)
        await runs.until(lambda: all(len(runs.begun[job]) >= 2 and runs.alive[job] for job in dying))
        last = staying[-1:]
        await runs.let_go(lambda job: job not in last)
        await load.succeed(*dying, *moving, *staying[:-1])
        for job in [*dying, *moving]:
            await load.has_moved(job, gone, lost=job in dying)
        for job in staying[:-1]:
            assert [attempt.provider for attempt in (await client.get(job)).attempts] == [accident.provider]
        for job in named:
            await load.waits(job)

        assert all(runs.alive[job] == {1} for job in last)
        await start_again(accident.start, api)
        await load.succeed(*named)
        if not accident.outlives:
            # A daemon ends at its start what another one has left behind.
            await runs.until(lambda: all(len(runs.begun[job]) == 2 and runs.alive[job] for job in last))
        assert all(runs.begun[job][0] == 1 and runs.alive[job] == {runs.begun[job][-1]} for job in last)
        await runs.let_go()
        await load.succeed(*last)
        assert all([(await client.get(job)).attempts[-1].provider == accident.provider for job in named])
        assert runs.twice == set()
        for job in load.jobs:
            await load.ran_once(job)
        await nothing_left(api, namespace)
        async with asyncio.timeout(PATIENCE):
            while any([await asyncio.to_thread(leftovers, f"hodei.job={job}") for job in load.jobs]):
                await asyncio.sleep(0.1)


async def happen(accident: Accident, dying: list[str]) -> dt.datetime:
    """Let an engine be away, and die with it whatever its own end does not end; return from when on it is away."""
    pids = [] if accident.confirmed else [await asyncio.to_thread(pid_of, job) for job in dying]
    await run_command(accident.stop)
    gone = dt.datetime.now(dt.UTC)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return gone


def pid_of(job: str) -> int:
    """Return the process on this machine that a job's container ends with."""
    return int(inspect(container_of(job))["State"]["Pid"])


class Load:
    """Jobs, one of whose engines is killed.

    :param provider: that one.
    """

    def __init__(self, client: Client, runs: Runs, provider: str) -> None:
        self.jobs: list[str] = []
        self._client = client
        self._runs = runs
        self._provider = provider

    async def submit(self, count: int, *providers: str) -> list[str]:
        """Submit jobs that may go to some providers; to any where none is named."""
        jobs = [await self._client.submit(self._runs.held, providers=providers, retry=SOON) for _ in range(count)]
        self.jobs += jobs
        return jobs

    async def run(self, count: int) -> list[str]:
        """Submit jobs, and wait for them to run and to have said so."""
        jobs = await self.submit(count)
        await self._runs.until(lambda: all(self._runs.alive[job] for job in jobs))
        for job in jobs:
            await until_said(self._client, job, "runs 1\n", STDOUT)
        return jobs

    async def sent_to_it(self, count: int) -> None:
        """Wait for so many attempts to have begun there."""

        async def sent() -> bool:
            attempts = [attempt for job in self.jobs for attempt in (await self._client.get(job)).attempts]
            return sum(attempt.provider == self._provider for attempt in attempts) >= count

        await until(sent)

    async def said_to_be_out(self) -> None:
        """Wait for a plan to say in words that nothing goes there."""

        async def said() -> bool:
            plan = await self._client.plan(wire.JobSpec(argv=["true"]))
            verdict = next(each for each in plan.candidates if each.provider == self._provider)
            return not verdict.room and ("not healthy" in verdict.reason or "its breaker is open" in verdict.reason)

        await until(said)

        async def unhealthy() -> bool:
            # Launches that fail may open its breaker before its health is asked again.
            return not (await self._client.provider(self._provider)).healthy

        await until(unhealthy)
        assert (await self._client.provider(self._provider)).health_message

    async def succeed(self, *jobs: str) -> None:
        """Wait for jobs to have ended well."""
        for job in jobs:
            async with asyncio.timeout(PATIENCE):
                outcome = await self._client.wait(job)
            assert outcome.state == wire.JOB_STATE_SUCCEEDED, (outcome, await self._client.explain(job))

    async def waits(self, job: str) -> None:
        """See that a job that names the engine waits for it, and that nothing takes its place."""
        told = await self._client.explain(job)
        assert told.state in {wire.JOB_STATE_QUEUED, wire.JOB_STATE_STARTING}, told
        assert [each.provider for each in told.providers if each.eligible] == [self._provider]
        assert not self._runs.begun[job]

    async def has_moved(self, job: str, gone: dt.datetime, *, lost: bool) -> None:
        """See that a job has run elsewhere, and where it was there before, that it says so.

        :param gone: since when the engine is away.
        :param lost: it has run there, and was lost.
        """
        *before, last = (await self._client.get(job)).attempts
        told = await self._client.explain(job)
        assert {each.provider for each in before} <= {self._provider}, told
        assert all(each.outcome.message for each in before)
        causes = [each.outcome.cause for each in before]
        # Before it was known to be away, more may have been sent there.
        ended = {wire.CAUSE_WORKER_LOST, wire.CAUSE_EVICTED}
        never = ended | {wire.CAUSE_PROVIDER_ERROR, wire.CAUSE_START_TIMEOUT, wire.CAUSE_UNSCHEDULABLE}
        assert set(causes[:1]) <= (ended if lost else never), told
        assert set(causes[1:]) <= never, told
        assert before or not lost, told
        if last.provider == self._provider:
            # It was on its way there, and has arrived: an engine that is asked to end starts what comes until it has.
            assert last.create_time.ToDatetime(dt.UTC) <= gone, told
        elif before:
            moved = f"moved from provider {self._provider}, where attempt {len(before)} failed"
            assert told.decisions[-1].reason == moved, told
            assert any(moved in event.reason for event in told.events), told

    async def ran_once(self, job: str) -> None:
        """See that a job's last attempt has run once and those before at most once, and that no word of it is lost."""
        attempts = (await self._client.get(job)).attempts
        begun = self._runs.begun[job]
        assert begun == sorted(set(begun)), begun
        assert begun[-1] == len(attempts)
        expected = "".join(f"runs {number}\n" for number in begun) + LINES + f"ends {begun[-1]}\n"
        assert (await read(self._client, job, place=LogPlace(attempt=1))).decode() == expected
        assert (await self._client.receipt(job)).complete
