"""Where jobs go: idle workers first, their tenant's own before nobody's; what stands in the way is told."""

from __future__ import annotations

from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.strategies import Candidate
from hodei_server.work.placing import NO_TENANT, Place, Placing


def idle(worker_id: str, tenant: str = "a", image: str = "") -> Any:
    """Return the row of a worker that waits."""
    return {"worker_id": worker_id, "provider": "p", "tenant": tenant, "image": image, "resources": b""}


def placing(*workers: Any, most: int) -> Placing:
    """Return a look at one provider and its idle workers."""

    def candidates(held: dict[str, int]) -> list[Candidate]:
        return [Candidate("p", enabled=True, healthy=True, held=held.get("p", 0), max_workers=most)]

    held = {"p": len(workers)}
    return Placing(candidates, frozenset({"p"}), held, workers, wire.STRATEGY_FASTEST_STARTUP)


PLAIN = wire.JobSpec(argv=["true"])


def test_a_ready_worker_is_taken_before_one_is_launched() -> None:
    """Its tenant's own first, then one that has run nothing yet, then a new one, then none."""
    look = placing(idle("w1", NO_TENANT), idle("w2"), most=3)
    assert [look.choose(PLAIN, "a") for _ in range(4)] == [Place("p", "w2"), Place("p", "w1"), Place("p", None), None]
    assert look.free == 0


def test_a_worker_stays_with_its_tenant() -> None:
    """Another tenant's job doesn't get it, though the provider is full."""
    look = placing(idle("w1", "b"), most=1)
    assert look.choose(PLAIN, "a") is None


def test_an_idle_worker_makes_room_for_a_job_that_cannot_have_it() -> None:
    """No more of them than there are such jobs; without such jobs, none."""
    look = placing(idle("w1", "b"), idle("w2", "b"), most=2)
    assert look.choose(PLAIN, "a") is None
    assert look.in_the_way() == ["w1"]
    assert placing(idle("w1", "b"), most=2).in_the_way() == []
