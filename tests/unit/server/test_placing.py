"""Where jobs go: where the strategy says, a ready worker counting as a place; what stands in the way is told."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei.v1.job_pb2 import Decision
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.measures import Estimate
from hodei_server.domain.prices import Prices, Rate
from hodei_server.domain.reservations import Reservations
from hodei_server.work.decisions import encoded_decision
from hodei_server.work.placing import NO_TENANT, Place, Placing

PLAIN = wire.JobSpec(argv=["true"])
GIB = 1 << 30


def idle(worker_id: str, tenant: str = "a", image: str = "", provider: str = "p") -> Any:
    """Return the row of a worker that waits."""
    return {"worker_id": worker_id, "provider": provider, "tenant": tenant, "image": image, "resources": b""}


def provider(name: str = "p", *, held: int = 0, most: int = 10, **more: Any) -> Candidate:
    """Return a provider."""
    return Candidate(name, enabled=True, healthy=True, held=held, max_workers=most, resource_limits=True, **more)


def placing(*workers: Any, most: int) -> Placing:
    """Return a look at one provider and its idle workers."""
    return Placing([provider(held=len(workers), most=most)], workers, "fastest-startup")


def asking(gib: int) -> wire.JobSpec:
    """Return a job that asks for memory."""
    return wire.JobSpec(argv=["true"], resources=wire.Resources(memory_bytes=gib * GIB))


def test_a_ready_worker_is_taken_before_one_is_launched() -> None:
    """Its tenant's own first, then one that has run nothing yet, then a new one, then none."""
    look = placing(idle("w1", NO_TENANT), idle("w2"), most=3)
    places = [look.choose(PLAIN, "a").place for _ in range(4)]
    assert places == [Place("p", "w2"), Place("p", "w1"), Place("p", None), None]
    assert look.free == 0


@pytest.mark.parametrize("change", [{"healthy": False, "health_message": "its breaker is open"}, {"max_workers": 1}])
def test_a_ready_worker_takes_a_job_though_its_provider_would_launch_none(change: dict[str, Any]) -> None:
    """Nothing more is asked of the provider; what an operator has closed takes no job at all."""
    shut = dataclasses.replace(provider(held=1), **change)
    chosen = Placing([shut], [idle("w1")], "fastest-startup").choose(PLAIN, "a")
    assert chosen.place == Place("p", "w1")
    assert [(each.room, each.reason) for each in chosen.verdicts] == [(True, "a worker that fits waits there")]
    closed = dataclasses.replace(shut, enabled=False, closed="it is disabled")
    chosen = Placing([closed], [idle("w1")], "fastest-startup").choose(PLAIN, "a")
    assert (chosen.place, [each.reason for each in chosen.verdicts]) == (None, ["it is disabled"])


def test_a_worker_stays_with_its_tenant() -> None:
    """Another tenant's job doesn't get it, though the provider is full."""
    look = placing(idle("w1", "b"), most=1)
    assert look.choose(PLAIN, "a").place is None


def test_an_idle_worker_makes_room_for_a_job_that_cannot_have_it() -> None:
    """No more of them than there are such jobs; without such jobs, none."""
    look = placing(idle("w1", "b"), idle("w2", "b"), most=2)
    assert look.choose(PLAIN, "a").place is None
    assert look.in_the_way() == ["w1"]
    assert placing(idle("w1", "b"), most=2).in_the_way() == []


def test_a_ready_worker_of_a_dear_provider_is_not_cheap() -> None:
    """It counts as a start of no seconds; a strategy that does not ask for those leaves it where it is."""
    dear = provider("dear", held=1, prices=Prices(Rate(5.0)), start=lambda _image: Estimate(9.0))
    cheap = provider("cheap", prices=Prices(Rate(1.0)), start=lambda _image: Estimate(9.0))
    for strategy, place in (("lowest-cost", Place("cheap", None)), ("fastest-startup", Place("dear", "w"))):
        look = Placing([dear, cheap], [idle("w", provider="dear")], strategy)
        assert look.choose(PLAIN, "a").place == place


def test_a_provider_that_failed_a_job_is_taken_where_no_other_has_room() -> None:
    """A failed attempt moves to another provider; a job that names one goes back to it (W36)."""
    look = Placing([provider("a"), provider("b", most=1)], [], "most-capacity")
    avoid = frozenset({"a"})
    assert look.choose(PLAIN, "t", avoid=avoid).place == Place("b", None)
    assert look.choose(PLAIN, "t", avoid=avoid).place == Place("a", None)
    named = wire.JobSpec(argv=["true"], providers=["a"])
    assert look.choose(named, "t", avoid=avoid).place == Place("a", None)


def test_what_the_engine_has_left_shrinks_with_each_job() -> None:
    """W15: a job that asks for more than is left waits, and is told what is left; one that asks for less goes."""
    look = Placing([provider(free={"memory_bytes": 4 * GIB})], [], "fastest-startup")
    assert look.choose(asking(3), "t").place
    refused = look.choose(asking(2), "t")
    assert refused.place is None
    assert [each.reason for each in refused.verdicts] == ["resources.memory_bytes: 1024 MiB are left"]
    assert look.choose(asking(1), "t").place


def test_jobs_are_judged_as_if_each_were_alone() -> None:
    """What is remembered of the jobs before never changes a verdict: a look at each with nothing remembered agrees."""
    candidates = {name: provider(name, most=3, free={"memory_bytes": 5 * GIB}) for name in ("a", "b", "c")}
    look = Placing(list(candidates.values()), [], "most-capacity")
    for spec in [PLAIN, asking(2), PLAIN, asking(1), asking(3), PLAIN, asking(2), asking(1), PLAIN, PLAIN]:
        place = look.choose(spec, "t").place
        alone = Placing(list(candidates.values()), [], "most-capacity").choose(spec, "t").place
        assert place == alone
        if place is not None:
            candidates[place.provider] = candidates[place.provider].with_another(spec.resources)


def test_room_is_kept_for_a_large_job_once_it_was_passed_for_long_enough() -> None:
    """Small jobs get what is left beside it, and no more; it takes its room, and then they go on."""
    kept = Reservations(slip=60, hold=600)

    def look(free: int, now: float) -> Placing:
        return Placing([provider(free={"memory_bytes": free * GIB})], [], "most-capacity", reservations=kept, now=now)

    large, small = asking(6), asking(1)
    first = look(2, now=0)
    assert first.choose(large, "t", job_id="large", waited=59).place is None
    assert first.choose(small, "t", job_id="s1").place, "others may slip past for a minute"
    second = look(2, now=2)
    assert second.choose(large, "t", job_id="large", waited=61).place is None
    assert second.choose(small, "t", job_id="s2").place is None, "what is free is the large one's"
    assert look(7, now=3).choose(small, "t", job_id="s3").place, "what is left beside it is not"
    third = look(7, now=4)
    assert third.choose(large, "t", job_id="large", waited=63).place
    assert third.choose(small, "t", job_id="s4").place
    assert list(kept.held()) == []


def test_room_that_does_not_come_is_given_up_for_a_while() -> None:
    """A job that runs on and on would have half a provider stand idle for one that never fits."""
    kept = Reservations(slip=60, hold=600)

    def small_one_goes(now: float) -> bool:
        look = Placing([provider(free={"memory_bytes": 2 * GIB})], [], "most-capacity", reservations=kept, now=now)
        assert look.choose(asking(6), "t", job_id="large", waited=now + 61).place is None
        return look.choose(asking(1), "t", job_id=f"s{now}").place is not None

    goes = [small_one_goes(float(now)) for now in range(0, 2400, 50)]
    turns = [first for first, second in itertools.pairwise(goes) if first != second]
    assert goes[0] is False
    assert len(turns) >= 3, "kept, given up, kept again"
    assert 0.3 < sum(goes) / len(goes) < 0.7


def test_a_reservation_of_a_job_that_is_gone_goes_too() -> None:
    """Cancelled, it is not looked at again."""
    kept = Reservations(slip=0, hold=600)
    kept.keep("p", "gone", asking(6).resources, 0.0)
    look = Placing([provider(free={"memory_bytes": 2 * GIB})], [], "most-capacity", reservations=kept, now=61.0)
    assert look.choose(asking(1), "t", job_id="s").place


def test_no_provider_is_held_that_could_take_the_job_at_once() -> None:
    """It takes it: nothing is reserved on an idle provider."""
    kept = Reservations(slip=0, hold=600)
    full, idle_one = provider("a", free={"memory_bytes": 0}), provider("b", free={"memory_bytes": 8 * GIB})
    look = Placing([full, dataclasses.replace(idle_one)], [], "most-capacity", reservations=kept)
    assert look.choose(asking(6), "t", job_id="large", waited=99).place == Place("b", None)
    assert list(kept.held()) == []


def test_a_decision_tells_what_was_so_of_each_provider_when_it_was_made() -> None:
    """Though what verdicts come to is made once: of the best first, and of one that has failed the job before."""
    look = Placing([provider("a", most=2), provider("b", most=1)], [], "most-capacity")
    told = []
    for avoid in (frozenset[str](), frozenset({"a"}), frozenset[str](), frozenset[str]()):
        choice = look.choose(PLAIN, "t", avoid=avoid)
        decision = Decision.FromString(encoded_decision("j", PLAIN, choice, {}, avoid=avoid))
        fits = [(each.provider, each.inputs.fits, each.room, each.avoided) for each in decision.candidates]
        told.append((decision.provider, decision.reason, fits))
    assert told == [
        ("a", "it has room", [("a", 2, True, False), ("b", 1, True, False)]),
        ("b", "it has room", [("b", 1, True, False), ("a", 1, True, True)]),
        ("a", "it has room", [("a", 1, True, False), ("b", 0, False, False)]),
        ("", "a: it holds 2 of at most 2 workers", [("a", 0, False, False), ("b", 0, False, False)]),
    ]
