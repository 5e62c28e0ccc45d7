"""Attempts that the server gives up, or starts, while something else happens to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_server.db.database import DatabaseUnavailableError
from hodei_server.domain.states import Cause
from hodei_server.work import launching
from hodei_server.work.attempts import Attempts
from hodei_server.work.live import LiveAttempt
from hodei_server.work.reports import Reports


def attempt(log: Any) -> LiveAttempt:
    """Return an attempt with a secret, of worker w1."""
    spec = types_wire.JobSpec(argv=["true"], secrets=[types_wire.Secret(name="A")])
    return LiveAttempt("job", "uid", 1, "kubernetes", "w1", spec, 1, "", log)


def test_a_worker_that_was_asked_to_end_by_the_server_does_not_say_why() -> None:
    """A run timeout that the server enforces is no eviction, which would be tried again; nor is its repetition."""
    live = attempt(SimpleNamespace(accepted=0))
    live.losing, live.lost_by = True, (Cause.RUN_TIMEOUT, "Ran too long")
    begun = Mock()
    attempts: Any = SimpleNamespace(live=SimpleNamespace(by_uid=lambda _uid: live), completion=begun)
    session: Any = SimpleNamespace(worker_id="w1")
    reports = Reports(Mock(), Mock(), attempts)
    for _ in range(2):
        said = wire.AttemptResult(attempt_uid="uid", epoch=1, cause=types_wire.CAUSE_EVICTED, log_checksum=bytes(32))
        reports.result(session, said)
    assert live.result is not None
    assert (live.result.cause, live.result.message) == (types_wire.CAUSE_RUN_TIMEOUT, "Ran too long")
    begun.begin.assert_called_once()


async def test_a_line_that_comes_while_secrets_are_read_is_durable_before_the_job_is_sent() -> None:
    """The worker's chunks follow the server's own, which must be there first, whoever dies."""
    log = SimpleNamespace(accepted=0, durable=0, ended=False, checksum=bytes(32))
    live = attempt(log)
    sent: list[tuple[int, int]] = []

    async def flush() -> None:
        log.durable = log.accepted

    async def of(_job_id: str, _spec: types_wire.JobSpec) -> list[types_wire.Secret]:
        log.accepted += 1  # a provider's line
        return []

    log.flush = flush
    session: Any = SimpleNamespace(protocol=2, send=lambda _message: sent.append((log.durable, log.accepted)))
    attempts = object.__new__(Attempts)
    attempts.secrets = SimpleNamespace(of=of)  # type: ignore[assignment]  # what is read meanwhile
    attempts._sessions = SimpleNamespace(get=lambda _worker: session)  # type: ignore[assignment]
    attempts._send_run = lambda *_given: session.send(None)  # type: ignore[method-assign]
    await attempts._run_once_ready(session, live)
    assert sent == [(1, 1)]


async def test_a_database_that_fails_for_a_moment_only_delays_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether before its worker is there or after: the job would wait until its start timeout for nothing."""
    monkeypatch.setattr(launching, "RETRY_SECONDS", 0.0)
    answers = [DatabaseUnavailableError("full"), {"tenant": "default", "max_jobs": 1}, {"tenant": "", "max_jobs": 1}]
    database: Any = SimpleNamespace(read=AsyncMock(side_effect=answers))
    fleet: Any = SimpleNamespace(launch=AsyncMock(side_effect=[DatabaseUnavailableError("full"), None]))
    launches = launching.Launching(
        database, fleet, Mock(), may_go=Mock(), start_timeout=60, cancel_grace=10, orphan_after=600
    )
    await launches._launch(attempt(SimpleNamespace()))
    assert (database.read.await_count, fleet.launch.await_count) == (3, 2)


async def test_a_job_with_secrets_is_not_given_to_a_worker_that_knows_of_none() -> None:
    """It would run without them, and nobody would notice."""
    live = attempt(SimpleNamespace())
    attempts = object.__new__(Attempts)
    attempts.lose_soon = Mock()  # type: ignore[method-assign]
    session: Any = SimpleNamespace(protocol=1, version="0.0.9", send=Mock())
    await attempts._run_once_ready(session, live)
    session.send.assert_not_called()
    (given, cause, message), _ = attempts.lose_soon.call_args
    assert (given, cause) == (live, Cause.WORKER_LOST)
    assert "0.0.9" in message
