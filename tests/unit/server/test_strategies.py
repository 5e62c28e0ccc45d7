"""Who may take a job, and who does."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.measures import Estimate, HealthWindow, StartTimes
from hodei_server.domain.prices import Prices, Rate
from hodei_server.domain.strategies import NAMES, STRATEGIES, judge, rank, strategy_of
from hodei_server.domain.verdicts import Standing

BASE = Candidate(name="a", enabled=True, healthy=True, held=0, max_workers=4)


def other(**changes: Any) -> Candidate:
    """Return another candidate."""
    return dataclasses.replace(BASE, name="b", **changes)


def test_every_strategy_of_the_wire_has_a_score() -> None:
    """W38: none is accepted and then ignored."""
    assert set(NAMES) == set(wire.Strategy.values()) - {0}
    assert set(NAMES.values()) == set(STRATEGIES)


DEAR = Prices(worker=Rate(1.0))


@pytest.mark.parametrize(
    ("strategy", "worse", "better"),
    [
        ("lowest-cost", {"prices": DEAR}, {}),
        ("fastest-startup", {}, {"start": lambda _image: Estimate(0.1)}),
        ("most-capacity", {}, {"max_workers": 100}),
        ("most-capacity", {"free": {"memory_bytes": 1 << 30}}, {"max_workers": 3}),
        ("healthiest", {"health": 0.9}, {}),
        ("by-labels", {}, {"labels": {"zone": "x"}}),
        ("by-labels", {"labels": {"team": "t"}}, {"labels": {"zone": "x"}}),
        ("by-labels", {}, {"labels": {"team": "t"}}),
        ("by-labels", {}, {"labels": {"data": "here"}, "annotations": ("data",)}),
    ],
)
def test_a_strategy_prefers_what_it_is_named_after(
    strategy: str, worse: dict[str, Any], better: dict[str, Any]
) -> None:
    """The better candidate wins, in whatever order they come."""
    spec = wire.JobSpec(
        preferred_labels={"zone": "x"},
        labels={"team": "t"},
        annotations={"data": "here", "free": "text"},
        resources=wire.Resources(memory_bytes=1 << 29),
    )
    lesser = dataclasses.replace(BASE, resource_limits=True, **worse)
    greater = other(resource_limits=True, **better)
    for candidates in ([lesser, greater], [greater, lesser]):
        assert rank(spec, candidates, strategy)[0].provider == "b"


def test_annotations_count_under_keys_that_the_provider_declares() -> None:
    """And under no other, whatever its labels are."""
    spec = wire.JobSpec(annotations={"data": "here"})
    undeclared = other(labels={"data": "here"})
    assert [each.score for each in rank(spec, [BASE, undeclared], "by-labels")] == [0.0, 0.0]


def test_a_job_names_its_strategy_or_gets_the_servers() -> None:
    """By number, or by the name of one that a third party has installed."""
    assert strategy_of(wire.JobSpec(strategy=wire.STRATEGY_LABELS), "healthiest") == "by-labels"
    assert strategy_of(wire.JobSpec(custom_strategy="mine"), "healthiest") == "mine"
    assert strategy_of(wire.JobSpec(), "healthiest") == "healthiest"


def _fails(*_: object) -> float:
    raise KeyError("nothing")


@pytest.mark.parametrize(("score", "word"), [(_fails, "KeyError"), (lambda *_: float("nan"), "no number")])
def test_a_strategy_that_fails_keeps_the_job_waiting_and_says_so(score: Any, word: str) -> None:
    """W36: nothing takes its place in silence."""
    verdict = judge(wire.JobSpec(), BASE, score)
    assert (verdict.eligible, verdict.room, verdict.standing) == (True, False, Standing.NO_SCORE)
    assert word in verdict.reason


def test_equal_scores_go_by_name() -> None:
    """The choice is the same every time."""
    verdicts = rank(wire.JobSpec(), [other(), BASE], "lowest-cost")
    assert [verdict.provider for verdict in verdicts] == ["a", "b"]


def test_prices_are_for_what_a_job_asks() -> None:
    """Of a worker, its processors, its memory, its GPUs; by its labels, and its type of GPU, where they say so."""
    prices = Prices(
        Rate(0.5),
        Rate(2.0, {("node", "spot"): 1.0}),
        Rate(0.25),
        Rate(3.0, {("gpu-type", "a100"): 10.0}),
    )
    resources = wire.Resources(cpu_millis=500, memory_bytes=4 << 30, gpu_count=2)
    assert prices.per_hour(wire.JobSpec(resources=resources)) == 0.5 + 1.0 + 1.0 + 6.0
    asked = wire.JobSpec(resources=resources, labels={"node": "spot"})
    asked.resources.gpu_type = "a100"
    assert prices.per_hour(asked) == 0.5 + 0.5 + 1.0 + 20.0
    assert prices.limit(asked) is None
    asked.run_timeout.FromSeconds(1800)
    assert prices.limit(asked) == 11.0
    assert Prices().limit(asked) is None


def test_a_run_costs_what_it_asked_for_or_else_what_it_used() -> None:
    """What was asked for is kept for the job whether it uses it or not; without prices nothing is claimed."""
    prices = Prices(cpu=Rate(2.0), gib=Rate(1.0))
    outcome = wire.Outcome(peak_memory_bytes=1 << 30)
    outcome.cpu_time.FromSeconds(900)
    assert prices.of_run(wire.JobSpec(), 1800, outcome) == pytest.approx((2.0 * 0.5 + 1.0) / 2)
    asked = wire.JobSpec(resources=wire.Resources(cpu_millis=4000, memory_bytes=2 << 30))
    assert prices.of_run(asked, 1800, outcome) == pytest.approx((2.0 * 4 + 2.0) / 2)
    assert prices.of_run(asked, 0, outcome) == 0
    assert Prices().of_run(asked, 1800, outcome) is None


def test_start_times_are_declared_until_they_are_measured() -> None:
    """By image; one slow start doesn't make an image slow."""
    times = StartTimes(15.0)
    assert times.of("x") == Estimate(15.0, 0)
    times.add("x", 2.0)
    assert times.of("x") == Estimate(2.0, 1)
    for _ in range(9):
        times.add("x", 2.0)
    times.add("x", 12.0)
    assert times.of("x").samples == 11
    assert times.of("x").seconds == pytest.approx(4.0)
    assert times.of("") == Estimate(15.0, 0)


def test_health_is_of_the_last_minutes() -> None:
    """Failures count against a provider, slow answers too, and both are forgotten."""
    window = HealthWindow()
    assert window.score(0.0) == 1.0
    window.add(0.0, well=False)
    for _ in range(3):
        window.add(10.0, well=True, latency=2.0)
    assert window.score(10.0) == pytest.approx(0.75 - 0.1)
    assert window.score(605.0) == pytest.approx(0.9)
    assert window.score(611.0) == 1.0


LIMITED: dict[str, Any] = {
    "resource_limits": True,
    "images": True,
    "labels": {"zone": "x"},
    "regions": ("us",),
    "architectures": ("amd64", "arm64"),
    "gpu_types": ("a100",),
    "max_resources": wire.Resources(cpu_millis=2000, memory_bytes=1 << 30, gpu_count=2),
    "refused_resources": {"disk_bytes": "its storage driver can't limit it"},
}


@pytest.mark.parametrize(
    ("changes", "spec", "reason"),
    [
        ({}, wire.JobSpec(providers=["x"]), "the job names other providers"),
        ({}, wire.JobSpec(image="debian"), "image: it runs no container images"),
        ({}, wire.JobSpec(required_labels={"a": "b"}), "required_labels: it lacks a=b"),
        (LIMITED, wire.JobSpec(required_labels={"zone": "y"}), "required_labels: it lacks zone=y"),
        ({}, wire.JobSpec(region="eu"), "region: it is not in eu"),
        (LIMITED, wire.JobSpec(region="eu"), "region: it is not in eu"),
        ({}, wire.JobSpec(architecture="arm64"), "architecture: it has not said which it has"),
        ({"architectures": ("amd64",)}, wire.JobSpec(architecture="arm64"), "architecture: it has amd64"),
        (LIMITED, wire.JobSpec(architecture="riscv64"), "architecture: it has amd64 and arm64"),
        (
            {},
            wire.JobSpec(resources=wire.Resources(cpu_millis=1)),
            "resources.cpu_millis: it can't limit or promise resources",
        ),
        (
            {},
            wire.JobSpec(resources=wire.Resources(gpu_count=1, gpu_type="t4")),
            "resources.gpu_count: it can't limit or promise resources",
        ),
        (
            LIMITED,
            wire.JobSpec(resources=wire.Resources(cpu_millis=2001)),
            "resources.cpu_millis: it offers at most 2000 to one worker",
        ),
        (
            LIMITED,
            wire.JobSpec(resources=wire.Resources(memory_bytes=2 << 30)),
            "resources.memory_bytes: it offers at most 1073741824 to one worker",
        ),
        (
            LIMITED,
            wire.JobSpec(resources=wire.Resources(disk_bytes=1)),
            "resources.disk_bytes: its storage driver can't limit it",
        ),
        (
            LIMITED,
            wire.JobSpec(resources=wire.Resources(gpu_count=1, gpu_type="t4")),
            "resources.gpu_type: it has no t4",
        ),
    ],
)
def test_a_provider_that_can_never_take_a_job_says_why(
    changes: dict[str, Any], spec: wire.JobSpec, reason: str
) -> None:
    """W02: the reason names the field, and what the provider has of it."""
    (verdict,) = rank(spec, [dataclasses.replace(BASE, **changes)], "lowest-cost")
    assert (verdict.eligible, verdict.room, verdict.standing) == (False, False, Standing.NEVER)
    assert verdict.reason == reason


def test_a_provider_that_has_all_that_a_job_asks_may_take_it() -> None:
    """W02: up to its bounds, on any of its processors; a size that is not bounded may be any."""
    spec = wire.JobSpec(
        image="debian",
        required_labels={"zone": "x"},
        region="us",
        resources=wire.Resources(cpu_millis=2000, memory_bytes=1 << 30, gpu_count=2, gpu_type="a100"),
    )
    candidate = dataclasses.replace(BASE, **LIMITED)
    for architecture in ("", "amd64", "arm64"):
        spec.architecture = architecture
        assert rank(spec, [candidate], "lowest-cost")[0].standing is Standing.OPEN
    unbounded = dataclasses.replace(BASE, resource_limits=True)
    huge = wire.JobSpec(resources=wire.Resources(memory_bytes=1 << 50))
    assert rank(huge, [unbounded], "lowest-cost")[0].standing is Standing.OPEN


def test_a_job_goes_to_the_provider_that_has_its_architecture() -> None:
    """W36, W37: whatever the strategy likes better."""
    cheap = dataclasses.replace(BASE, architectures=("amd64",))
    dear = other(architectures=("arm64",), prices=DEAR)
    for architecture, order in (("", "ab"), ("amd64", "ab"), ("arm64", "ba")):
        found = rank(wire.JobSpec(architecture=architecture), [cheap, dear], "lowest-cost")
        assert "".join(each.provider for each in found) == order
        assert [each.eligible for each in found] == [True, not architecture]


@pytest.mark.parametrize("change", [{"enabled": False}, {"healthy": False}, {"held": 4}])
def test_a_provider_without_room_is_waited_for(change: dict[str, Any]) -> None:
    """W36: it stays eligible; the job is not given to it now."""
    verdict = rank(wire.JobSpec(), [dataclasses.replace(BASE, **change)], "lowest-cost")[0]
    assert verdict.eligible
    assert not verdict.room


def test_room_that_is_kept_is_no_reason_against_who_asks_for_none() -> None:
    """W15: less than nothing is left where room is kept for a large job; a job without resources goes there."""
    candidate = other(resource_limits=True, free={"memory_bytes": -(1 << 30)})
    assert judge(wire.JobSpec(), candidate, STRATEGIES["most-capacity"]).room
    asks = wire.JobSpec(resources=wire.Resources(memory_bytes=1))
    assert judge(asks, candidate, STRATEGIES["most-capacity"]).standing is Standing.FULL


def test_an_elastic_provider_takes_what_it_has_no_room_for() -> None:
    """It may wait there; where most is left is told all the same."""
    spec = wire.JobSpec(resources=wire.Resources(memory_bytes=2 << 30))
    full = other(resource_limits=True, free={"memory_bytes": 1 << 30})
    assert judge(spec, full, STRATEGIES["most-capacity"]).standing is Standing.FULL
    verdict = judge(spec, dataclasses.replace(full, elastic=True), STRATEGIES["most-capacity"])
    assert (verdict.standing, verdict.score) == (Standing.OPEN, 0.0)


def test_a_strategy_that_is_not_there_any_more_keeps_its_jobs_waiting_and_says_so() -> None:
    """A job that was accepted may outlive the package that brought its strategy."""
    [verdict] = rank(wire.JobSpec(custom_strategy="gone"), [BASE], "lowest-cost")
    assert (verdict.standing, verdict.reason) == (Standing.NO_SCORE, "the strategy gone is not installed")


def test_health_is_read_while_others_add_to_it() -> None:
    """Looks and observations come from different threads."""
    window, over = HealthWindow(), threading.Event()

    def add() -> None:
        while not over.is_set():
            window.add(0.0, well=True)

    adding = threading.Thread(target=add)
    adding.start()
    try:
        assert {window.score(0.0) for _ in range(2000)} == {1.0}
    finally:
        over.set()
        adding.join()
