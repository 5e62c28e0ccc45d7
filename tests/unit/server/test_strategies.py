"""Who may take a job, and who does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.strategies import STRATEGIES, Candidate, rank

BASE = Candidate(name="a", enabled=True, healthy=True, held=0, max_workers=4)


def other(**changes: Any) -> Candidate:
    """Return another candidate."""
    return dataclasses.replace(BASE, name="b", **changes)


def test_every_strategy_of_the_wire_has_a_score() -> None:
    """W38: none is accepted and then ignored."""
    assert set(STRATEGIES) == set(wire.Strategy.values()) - {0}


@pytest.mark.parametrize(
    ("strategy", "better"),
    [
        (wire.STRATEGY_LOWEST_COST, {"cost_per_hour": -1.0}),
        (wire.STRATEGY_FASTEST_STARTUP, {"startup": lambda _image: 0.1}),
        (wire.STRATEGY_MOST_CAPACITY, {"max_workers": 100}),
        (wire.STRATEGY_LABELS, {"labels": {"zone": "x"}}),
    ],
)
def test_a_strategy_prefers_what_it_is_named_after(strategy: wire.Strategy.ValueType, better: dict[str, Any]) -> None:
    """The better candidate wins, in whatever order they come."""
    spec = wire.JobSpec(strategy=strategy, preferred_labels={"zone": "x"})
    for candidates in ([BASE, other(**better)], [other(**better), BASE]):
        assert rank(spec, candidates, wire.STRATEGY_LOWEST_COST)[0].provider == "b"


def test_the_healthiest_has_failed_least() -> None:
    """Failed launches in a row count against a provider."""
    worse = dataclasses.replace(BASE, failures=3)
    assert rank(wire.JobSpec(), [worse, other()], wire.STRATEGY_HEALTHIEST)[0].provider == "b"


def test_equal_scores_go_by_name() -> None:
    """The choice is the same every time."""
    verdicts = rank(wire.JobSpec(), [other(), BASE], wire.STRATEGY_LOWEST_COST)
    assert [verdict.provider for verdict in verdicts] == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (wire.JobSpec(providers=["x"]), "names other"),
        (wire.JobSpec(image="debian"), "image"),
        (wire.JobSpec(required_labels={"a": "b"}), "required_labels"),
        (wire.JobSpec(region="eu"), "region"),
        (wire.JobSpec(resources=wire.Resources(cpu_millis=1)), "resources.cpu_millis"),
        (wire.JobSpec(resources=wire.Resources(gpu_count=1, gpu_type="t4")), "resources.gpu_count"),
    ],
)
def test_a_provider_that_can_never_take_a_job_says_why(spec: wire.JobSpec, word: str) -> None:
    """W02: the reason names the field."""
    verdict = rank(spec, [BASE], wire.STRATEGY_LOWEST_COST)[0]
    assert not verdict.eligible
    assert word in verdict.reason


@pytest.mark.parametrize("change", [{"enabled": False}, {"healthy": False}, {"held": 4}])
def test_a_provider_without_room_is_waited_for(change: dict[str, Any]) -> None:
    """W36: it stays eligible; the job is not given to it now."""
    verdict = rank(wire.JobSpec(), [dataclasses.replace(BASE, **change)], wire.STRATEGY_LOWEST_COST)[0]
    assert verdict.eligible
    assert not verdict.room
