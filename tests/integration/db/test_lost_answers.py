"""COMMITs whose answer is lost: what was written down is carried on, once, by a server that took it for failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from sqlalchemy import make_url

from hodei.v1 import job_pb2, job_pb2_grpc
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.lost_answers import AnswerLosingProxy, LostAnswer
from hodei_faults.servers import settings_in
from hodei_providers.process.provider import ProcessProvider
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema_version import upgrade
from hodei_server.instruments import REGISTRY
from hodei_server.loops import unheld
from hodei_server.rpc import job_service
from hodei_server.settings import Settings
from hodei_server.work import scheduler as scheduler_module
from hodei_server.work.unheld import hold_unheld

#: Seconds for what happens within a few.
PATIENCE = 60


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> Callable[..., Settings]:
    """Return what makes settings for a server on the test's database."""
    engine = open_engine(database_url)
    upgrade(engine)
    engine.dispose()

    def make(**overrides: str) -> Settings:
        return settings_in(tmp_path / "data", **({"database_url": database_url} | overrides))

    return make


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the workers that are launched, each as often as it is."""
    workers: list[str] = []
    launch = ProcessProvider.launch

    async def noted(provider: ProcessProvider, request: Any) -> Any:
        workers.append(request.worker_id)
        return await launch(provider, request)

    monkeypatch.setattr(ProcessProvider, "launch", noted)
    return workers


class Sweep:
    """Holds the look for attempts that nobody holds back until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()

        async def late(*arguments: Any) -> None:
            await self.go.wait()
            await hold_unheld(*arguments)

        monkeypatch.setattr(unheld, "hold_unheld", late)


@contextlib.asynccontextmanager
async def serving(settings: Settings, *, ephemeral: bool = True) -> AsyncIterator[Client]:
    """Return the client of a server that runs meanwhile."""
    async with (
        Server(settings, ephemeral=ephemeral) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        yield client


async def outcome_of(client: Client, job: str) -> wire.Outcome:
    """Wait for a job's end."""
    async with asyncio.timeout(PATIENCE):
        return await client.wait(job)


async def test_a_job_that_was_given_out_by_a_commit_without_an_answer_runs_once(
    make_settings: Callable[..., Settings], launched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W14: what was written down is launched, by the server that has written it, and by nobody twice."""
    async with serving(make_settings()) as client:
        answer = LostAnswer(monkeypatch, scheduler_module, "give", bool)
        job = await client.submit(["sh", "-c", f"echo run >> {tmp_path}/marks"])
        outcome = await outcome_of(client, job)
        assert answer.lost.is_set()
        assert outcome.state == wire.JOB_STATE_SUCCEEDED
        [attempt] = (await client.get(job)).attempts
    assert launched == [attempt.worker_id]
    assert (tmp_path / "marks").read_text() == "run\n"


async def test_the_time_that_such_a_job_has_waited_is_measured(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it was given out, not until that was found."""

    def measured(what: str) -> float:
        return REGISTRY.get_sample_value(f"hodei_queue_wait_seconds_{what}") or 0.0

    async with serving(make_settings()) as client:
        answer = LostAnswer(monkeypatch, scheduler_module, "give", bool)
        count, total = measured("count"), measured("sum")
        job = await client.submit(["true"])
        await outcome_of(client, job)
        assert answer.lost.is_set()
        found = await client.get(job)
        [attempt] = found.attempts
    assert measured("count") == count + 1
    waited = attempt.create_time.ToMicroseconds() - found.submit_time.ToMicroseconds()
    assert measured("sum") - total == pytest.approx(waited / 1e6)


async def test_a_worker_that_waits_is_told_of_a_job_that_it_got_by_a_commit_without_an_answer(
    make_settings: Callable[..., Settings], launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W14: it is written down to be busy, and would be for ever."""
    async with serving(make_settings(worker_max_jobs="2")) as client:
        await outcome_of(client, await client.submit(["true"]))
        answer = LostAnswer(monkeypatch, scheduler_module, "give", bool)
        job = await client.submit(["true"])
        assert (await outcome_of(client, job)).state == wire.JOB_STATE_SUCCEEDED
        assert answer.lost.is_set()
        [attempt] = (await client.get(job)).attempts
    assert launched == [attempt.worker_id]


async def test_a_job_cancelled_before_its_lost_assignment_is_found_never_runs(
    make_settings: Callable[..., Settings], launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W16: a cancel that was accepted counts."""
    sweep = Sweep(monkeypatch)
    async with serving(make_settings()) as client:
        answer = LostAnswer(monkeypatch, scheduler_module, "give", bool)
        job = await client.submit(["true"])
        await asyncio.wait_for(answer.lost.wait(), PATIENCE)
        assert (await client.cancel(job)).state == wire.JOB_STATE_STARTING
        sweep.go.set()
        outcome = await outcome_of(client, job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED)
    assert not launched


async def test_a_job_cancelled_before_its_worker_was_launched_is_not_run_by_the_server_that_comes_after(
    make_settings: Callable[..., Settings], launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W16: a cancel that was accepted counts over a restart, too."""
    Sweep(monkeypatch)
    async with serving(make_settings(), ephemeral=False) as client:
        answer = LostAnswer(monkeypatch, scheduler_module, "give", bool)
        job = await client.submit(["true"])
        await asyncio.wait_for(answer.lost.wait(), PATIENCE)
        await client.cancel(job)
    async with serving(make_settings()) as client:
        outcome = await outcome_of(client, job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED)
    assert not launched


async def test_a_cancel_that_was_stored_by_a_commit_without_an_answer_is_carried_out(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked for it was told that the database failed, and may not ask again."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        aio.insecure_channel(server.address.target) as channel,
    ):
        job = await client.submit(["sleep", "600"])
        async for response in client.watch(job):
            if response.event.state == wire.JOB_STATE_RUNNING:
                break
        answer = LostAnswer(monkeypatch, job_service, "request_cancel")
        stub: Any = job_pb2_grpc.JobServiceStub(channel)
        with contextlib.suppress(grpc.RpcError):  # none where it was committed again, among others
            await stub.CancelJob(job_pb2.CancelJobRequest(job_id=job))
        outcome = await outcome_of(client, job)
        assert answer.lost.is_set()
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED)


@pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)
async def test_a_connection_that_breaks_as_a_commit_is_answered_loses_no_job(
    make_settings: Callable[..., Settings], launched: list[str], database_url: str
) -> None:
    """W14: PostgreSQL has done it, and nobody was told, as at a failover."""
    url = make_url(database_url)
    async with AnswerLosingProxy((url.host or "127.0.0.1", url.port or 5432)) as proxy:
        through = url.set(host=proxy.host, port=proxy.port).update_query_dict({"sslmode": "disable"})
        settings = make_settings(database_url=through.render_as_string(hide_password=False))
        async with serving(settings) as client:
            job = await client.submit(["true"])
            outcome = await outcome_of(client, job)
            assert proxy.lost.is_set()
            [attempt] = (await client.get(job)).attempts
    assert outcome.state == wire.JOB_STATE_SUCCEEDED
    assert launched == [attempt.worker_id]
