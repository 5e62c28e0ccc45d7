"""A database, or a provider, that fails for a moment while an attempt is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from hodei.checksum import encode_checksum
from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2
from hodei_client import Client
from hodei_providers.process.provider import ProcessProvider
from hodei_server.db import database as database_module
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.transaction import Transaction

from .conftest import Impostor

T = TypeVar("T")


class Outage:
    """Has the database fail once, for one task.

    :param task: how its name begins.
    :param number: at which of the task's reads, or of its writes.
    :ivar over: set once it has failed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, access: str, task: str, number: int) -> None:
        self.over = asyncio.Event()
        self._task = task
        self._left = number
        do = getattr(Database, access)

        async def access_or_fail(database: Database, function: Callable[[Transaction], T]) -> T:
            self._count()
            result: T = await do(database, function)
            return result

        monkeypatch.setattr(Database, access, access_or_fail)
        monkeypatch.setattr(database_module, "PERSIST_RETRY_SECONDS", 0.01)

    def _count(self) -> None:
        running = asyncio.current_task()
        if running is None or not running.get_name().startswith(self._task) or self.over.is_set():
            return
        self._left -= 1
        if not self._left:
            self.over.set()
            raise DatabaseUnavailableError("the database failed: disk I/O error")


async def submit_what_never_starts(client: Client) -> str:
    """Submit a job whose worker is soon given up, and that is not tried again."""
    spec = wire.JobSpec(argv=["true"], retry=wire.RetryPolicy(max_infrastructure_retries=0))
    spec.start_timeout.FromMilliseconds(200)
    job: str = await client.submit(spec)
    return job


@pytest.mark.parametrize(
    ("access", "task", "number"),
    [("read", "lose ", 1), ("read", "lose ", 2), ("write", "remove ", 1), ("write", "remove ", 2)],
    ids=["described", "diagnosed", "removal begun", "removal confirmed"],
)
async def test_an_attempt_given_up_while_the_database_fails_ends_all_the_same(
    impostor: tuple[Impostor, Client], monkeypatch: pytest.MonkeyPatch, access: str, task: str, number: int
) -> None:
    """Nothing but a restart would end it if the failure ended the giving up."""
    outage = Outage(monkeypatch, access, task, number)
    _, client = impostor
    job = await submit_what_never_starts(client)
    async with asyncio.timeout(90):
        outcome = await client.wait(job)
    assert outage.over.is_set()
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_START_TIMEOUT)


async def test_an_attempt_whose_giving_up_has_failed_is_given_up_again(
    impostor: tuple[Impostor, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by what nobody has thought of: a provider that fails in a way that the contract does not know."""
    diagnose = ProcessProvider.diagnose
    asked = 0

    async def fail_once(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("a mistake of the provider's")
        return await diagnose(*arguments)

    monkeypatch.setattr(ProcessProvider, "diagnose", fail_once)
    _, client = impostor
    job = await submit_what_never_starts(client)
    async with asyncio.timeout(90):
        outcome = await client.wait(job)
    assert (asked, outcome.cause) == (2, wire.CAUSE_START_TIMEOUT)


async def test_the_result_of_an_evicted_job_is_kept_while_the_database_fails(
    impostor: tuple[Impostor, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reason can't be asked for then; that would only have adorned the message."""
    outage = Outage(monkeypatch, "read", "finish ", 1)
    worker, client = impostor
    job = await client.submit(wire.JobSpec(argv=["true"], retry=wire.RetryPolicy(max_infrastructure_retries=0)))
    stream, run = await worker.connect(await worker.register())
    result = worker_pb2.AttemptResult(
        attempt_uid=run.attempt_uid,
        epoch=run.epoch,
        cause=wire.CAUSE_EVICTED,
        message="asked to end",
        log_checksum=run.log_checksum or encode_checksum(0),
        next_sequence=run.first_sequence,
    )
    await stream.write(worker_pb2.ConnectRequest(result=result))
    async with asyncio.timeout(90):
        while (await worker.next_message(stream)).WhichOneof("message") != "result_ack":
            pass
        outcome = await client.wait(job)
    assert outage.over.is_set()
    assert outcome.cause == wire.CAUSE_EVICTED
    assert outcome.message.startswith("asked to end")
