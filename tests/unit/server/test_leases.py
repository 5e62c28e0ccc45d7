"""Workers that are not connected, and what their providers say of them."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from hodei_providers.contract import Description, ExitReason, Handle, WorkerPhase
from hodei_server.domain.states import Cause
from hodei_server.domain.workers import WorkerState
from hodei_server.loops.leases import ORPHAN_MARGIN, Leases
from hodei_server.loops.presence import Presence
from hodei_server.work.live import LiveAttempts
from hodei_server.work.sessions import Sessions


class OneThatHangs:
    """Workers of two providers: `slow` does not answer before it is let, `gone` says that its worker has ended."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.removed: asyncio.Queue[str] = asyncio.Queue()

    async def describe(self, worker_id: str, provider: str) -> Description:
        """Ask a provider."""
        if provider == "slow":
            await self.answers.wait()
            return Description(Handle(worker_id), WorkerPhase.RUNNING)
        return Description(Handle(worker_id), WorkerPhase.EXITED)

    def remove_soon(self, worker_id: str, *_how: Any, **_more: Any) -> None:
        """Note what is removed."""
        self.removed.put_nowait(worker_id)


async def test_a_provider_that_does_not_answer_keeps_nobody_waiting_for_the_others() -> None:
    """W19: workers of another one that have ended are found meanwhile."""
    fleet: Any = OneThatHangs()
    attempts: Any = Mock(live=LiveAttempts())
    leases = Leases(
        attempts, fleet, Sessions(), Mock(), lease=0.0, orphan_after=600.0, pools=Mock(), presence=Presence()
    )
    rows: Any = [
        {
            "worker_id": worker_id,
            "provider": provider,
            "removal_reason": None,
            "state": int(WorkerState.BUSY),
            "registered_at": 1,
            "hello_at": 1,
        }
        for worker_id, provider in (("w1", "slow"), ("w2", "gone"))
    ]
    looking = asyncio.create_task(leases.check(rows))
    assert await fleet.removed.get() == "w2"
    assert not looking.done()
    fleet.answers.set()
    await looking
    assert fleet.removed.empty()


GONE = Description(Handle("w1"), WorkerPhase.MISSING, reason=ExitReason.EVICTED, message="the pod was deleted")
UNSEEN = Description(Handle("w1"), WorkerPhase.MISSING, message="the pod was deleted", unconfirmed=True)


def judging(live: Any, hello_at: int | None) -> tuple[Leases, Any]:
    """Return leases of one worker, and what its attempt is given up with."""
    fleet, attempts = Mock(), Mock(live=MagicMock(of_worker=lambda _: live))
    database: Any = Mock(read=AsyncMock(return_value={"hello_at": hello_at}))
    leases = Leases(
        attempts, fleet, Sessions(), database, lease=0.0, orphan_after=600.0, pools=Mock(), presence=Presence()
    )
    return leases, attempts.lose_soon


async def test_a_worker_whose_end_nobody_has_seen_keeps_its_job_until_it_has_been_silent_for_long_enough() -> None:
    """W08, W14: whether its provider tells so by itself or is asked; another attempt would run beside this one."""
    live = Mock(result=None, started=True)
    leases, lose = judging(live, hello_at=1)
    await leases.heard(UNSEEN)
    for silent in (0.0, 599.0, 600.0, 600.0 + ORPHAN_MARGIN):
        leases.judge(UNSEEN, silent, begun=True)
    lose.assert_not_called()
    leases.judge(UNSEEN, 601.0 + ORPHAN_MARGIN, begun=True)
    lose.assert_called_once_with(live, Cause.WORKER_LOST, "The worker is gone: the pod was deleted")


@pytest.mark.parametrize(
    ("description", "hello_at", "cause"), [(GONE, 1, Cause.EVICTED), (UNSEEN, None, Cause.WORKER_LOST)]
)
async def test_a_worker_that_has_ended_or_never_had_a_job_is_given_up_at_once(
    *, description: Description, hello_at: int | None, cause: Cause
) -> None:
    """W08, W09: its end was confirmed; or it is let in no more, wherever it is."""
    live = Mock(result=None, started=False)
    leases, lose = judging(live, hello_at)
    await leases.heard(description)
    lose.assert_called_once_with(live, cause, "The worker is gone: the pod was deleted")


async def test_a_worker_without_a_job_is_removed_whether_its_end_was_seen_or_not() -> None:
    """There is nothing that could run twice."""
    leases, lose = judging(None, hello_at=1)
    await leases.heard(UNSEEN)
    lose.assert_not_called()
    fleet: Any = leases._fleet
    fleet.remove_soon.assert_called_once()


@pytest.mark.parametrize(
    ("silent", "hello_at", "connected", "given_up"),
    [
        (600.0 + ORPHAN_MARGIN, 1, False, False),
        (601.0 + ORPHAN_MARGIN, 1, False, True),
        (601.0 + ORPHAN_MARGIN, 1, True, False),
        (0.0, None, False, True),
    ],
)
async def test_a_job_whose_removed_worker_is_out_of_sight_waits_until_that_must_have_ended_it(
    silent: float, hello_at: int | None, *, connected: bool, given_up: bool
) -> None:
    """W08, W14: nobody can say that it is gone; it ends its job by itself, or is let in no more to get one."""
    live = Mock(result=None, losing=True, given_up=asyncio.Event())
    leases, _ = judging(live, hello_at)
    fleet: Any = leases._fleet
    fleet.removals.out_of_reach = {}
    sessions: Any = Mock(silent_for=lambda *_: silent, get=lambda _: Mock() if connected else None)
    leases._sessions = sessions
    rows: Any = [{"worker_id": "w1", "removal_reason": "lost", "hello_at": hello_at}]
    await leases.check(rows)
    assert not live.given_up.is_set()
    fleet.removals.out_of_reach = {"w1": "its provider has lost sight of it"}
    await leases.check(rows)
    assert live.given_up.is_set() is given_up
