"""Which provider takes a job: who may, and who of them is best. Pure; the server hands in what it knows.

A strategy is a function of a job and what there is to know of a provider for it; the highest score wins, and equal
scores go by name. Third parties add theirs by the entry point group `hodei.strategies`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.candidates import SHARED, Candidate
from hodei_server.domain.verdicts import Inputs, Ranking, Standing, Verdict

#: What one of the job's own labels or annotations weighs beside a preferred label.
OWN_LABEL_WEIGHT = 0.001
MIB = 1 << 20


Score = Callable[[wire.JobSpec, Candidate, Inputs], float]

STRATEGIES: Mapping[str, Score] = {
    "lowest-cost": lambda _spec, _candidate, inputs: -inputs.cost_per_hour,
    "fastest-startup": lambda _spec, _candidate, inputs: -inputs.start_seconds,
    "most-capacity": lambda _spec, _candidate, inputs: float(inputs.fits),
    "healthiest": lambda _spec, _candidate, inputs: inputs.health,
    "by-labels": lambda _spec, _candidate, inputs: inputs.labels,
}
#: The strategies that jobs name by a number.
NAMES: Mapping[int, str] = {
    wire.STRATEGY_LOWEST_COST: "lowest-cost",
    wire.STRATEGY_FASTEST_STARTUP: "fastest-startup",
    wire.STRATEGY_MOST_CAPACITY: "most-capacity",
    wire.STRATEGY_HEALTHIEST: "healthiest",
    wire.STRATEGY_LABELS: "by-labels",
}


class NotInstalledError(LookupError):
    """A strategy that a job names is not there, or not any more."""


def score_of(name: str, strategies: Mapping[str, Score]) -> Score:
    """Return a strategy; for one that is not there, what says so of every provider."""

    def missing(_spec: wire.JobSpec, _candidate: Candidate, _inputs: Inputs) -> float:
        raise NotInstalledError(f"the strategy {name} is not installed")

    return strategies.get(name, missing)


def strategy_of(spec: wire.JobSpec, default: str) -> str:
    """Return the name of a job's strategy.

    :param default: of a job that names none.
    """
    return spec.custom_strategy or NAMES.get(spec.strategy, default)


def inputs_of(spec: wire.JobSpec, candidate: Candidate, *, ready: bool = False) -> Inputs:
    """Return what strategies read of a provider for a job.

    :param ready: a worker that fits waits there.
    """
    estimate = candidate.start(spec.image)
    return Inputs(
        cost_per_hour=candidate.prices.per_hour(spec),
        start_seconds=0.0 if ready else estimate.seconds,
        start_samples=estimate.samples,
        fits=candidate.fits(spec.resources),
        health=candidate.health,
        labels=_labels(spec, candidate),
        ready=ready,
    )


def _labels(spec: wire.JobSpec, candidate: Candidate) -> float:
    has = candidate.labels
    preferred = sum(has.get(key) == value for key, value in spec.preferred_labels.items())
    own = sum(has.get(key) == value for key, value in spec.labels.items())
    own += sum(key in has and has[key] == spec.annotations.get(key) for key in candidate.annotations)
    return preferred + OWN_LABEL_WEIGHT * own


def never(spec: wire.JobSpec, candidate: Candidate) -> str | None:
    """Return why a provider can never take a job as it is configured; None when it can."""
    against = _never(spec, candidate)
    if against is not None:
        return against
    return "; ".join(f"{field}: {reason}" for field, reason in _refused(spec, candidate).items()) or None


def refused_names(spec: wire.JobSpec, candidate: Candidate) -> Mapping[str, str]:
    """Return which of a job's own labels and annotations a provider that could take it refuses, and why."""
    return _refused(spec, candidate) if _never(spec, candidate) is None else {}


def _refused(spec: wire.JobSpec, candidate: Candidate) -> Mapping[str, str]:
    return candidate.refused_names(spec.labels, spec.annotations) if spec.labels or spec.annotations else {}


def _never(spec: wire.JobSpec, candidate: Candidate) -> str | None:
    if spec.providers and candidate.name not in spec.providers:
        return "the job names other providers"
    if spec.image and not candidate.images:
        return "image: it runs no container images"
    missing = [f"{key}={value}" for key, value in spec.required_labels.items() if candidate.labels.get(key) != value]
    if missing:
        return f"required_labels: it lacks {', '.join(missing)}"
    if spec.region and spec.region not in candidate.regions:
        return f"region: it is not in {spec.region}"
    if spec.architecture and spec.architecture not in candidate.architectures:
        return f"architecture: it has {' and '.join(candidate.architectures) or 'not said which it has'}"
    return _resources(spec.resources, candidate)


def _resources(asked: wire.Resources, candidate: Candidate) -> str | None:
    for name in SHARED:
        wanted, most = getattr(asked, name), getattr(candidate.max_resources, name)
        if wanted and not candidate.resource_limits:
            return f"resources.{name}: it can't limit or promise resources"
        if wanted and name in candidate.refused_resources:
            return f"resources.{name}: {candidate.refused_resources[name]}"
        if wanted and most and wanted > most:
            return f"resources.{name}: it offers at most {most} to one worker"
    if asked.gpu_type and asked.gpu_type not in candidate.gpu_types:
        return f"resources.gpu_type: it has no {asked.gpu_type}"
    return None


def not_now(asked: wire.Resources, candidate: Candidate) -> tuple[Standing, str] | None:
    """Return why a provider takes nothing like this at the moment; None when it does."""
    if not candidate.enabled:
        return Standing.CLOSED, candidate.closed
    if not candidate.healthy:
        return Standing.UNHEALTHY, f"it is not healthy: {candidate.health_message}"
    if not candidate.room:
        return Standing.FULL, f"it holds {candidate.held} of at most {candidate.max_workers} workers"
    for name, left in candidate.free.items():
        wanted = getattr(asked, name)
        # Less than nothing is left where room is kept for another job: no reason against one that asks for none.
        if wanted and wanted > left and not candidate.elastic:
            return Standing.FULL, f"resources.{name}: {_amount(name, left)} are left"
    return None


def _amount(name: str, left: int) -> str:
    left = max(left, 0)
    return f"{left // MIB} MiB" if name.endswith("_bytes") else str(left)


def judge(spec: wire.JobSpec, candidate: Candidate, score: Score, *, ready: bool = False) -> Verdict:
    """Judge one provider for a job.

    :param ready: a worker that fits waits there: it needs no room.
    """
    inputs = inputs_of(spec, candidate, ready=ready)
    against = never(spec, candidate)
    if against is not None:
        return Verdict(candidate.name, Standing.NEVER, 0.0, against, inputs)
    try:
        points = float(score(spec, candidate, inputs))
    except NotInstalledError as error:
        return Verdict(candidate.name, Standing.NO_SCORE, 0.0, str(error), inputs)
    except Exception as error:  # noqa: BLE001 - a stranger's code; the job waits, and the reason is told
        return Verdict(candidate.name, Standing.NO_SCORE, 0.0, f"its strategy failed: {error!r}", inputs)
    if math.isnan(points):
        return Verdict(candidate.name, Standing.NO_SCORE, 0.0, "its strategy returned no number", inputs)
    if ready and candidate.enabled:
        return Verdict(candidate.name, Standing.OPEN, points, "a worker that fits waits there", inputs)
    waiting = not_now(spec.resources, candidate)
    if waiting is not None:
        return Verdict(candidate.name, waiting[0], points, waiting[1], inputs)
    return Verdict(candidate.name, Standing.OPEN, points, "it has room", inputs)


def rank(
    spec: wire.JobSpec, candidates: Sequence[Candidate], default: str, strategies: Mapping[str, Score] = STRATEGIES
) -> Ranking:
    """Judge every provider for a job, the best first.

    :param default: the strategy of a job that names none.
    """
    score = score_of(strategy_of(spec, default), strategies)
    return Ranking.of(judge(spec, candidate, score) for candidate in candidates)
