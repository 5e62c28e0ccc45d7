"""Workers that are not connected, and what their providers say of them."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

from hodei_providers.contract import Description, Handle, WorkerPhase
from hodei_server.domain.workers import WorkerState
from hodei_server.loops.leases import Leases
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
        }
        for worker_id, provider in (("w1", "slow"), ("w2", "gone"))
    ]
    looking = asyncio.create_task(leases.check(rows))
    assert await fleet.removed.get() == "w2"
    assert not looking.done()
    fleet.answers.set()
    await looking
    assert fleet.removed.empty()
