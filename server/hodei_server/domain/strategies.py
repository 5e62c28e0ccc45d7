"""Which provider takes a job: who may, and who of them is best. Pure; the server hands in what it knows.

A strategy is a function of a job and a candidate; the highest score wins, and equal scores go by name. To add one, add
it to `STRATEGIES` and to `hodei.v1.Strategy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from hodei.v1 import types_pb2 as wire

RefusedNames = Callable[[Mapping[str, str], Mapping[str, str]], Mapping[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A provider as the scheduler sees it.

    :param max_resources: the most one worker can be given; 0 in a field is no limit.
    :param refused_resources: what it can't honour of them all the same, with the reason.
    :param held: workers there now, those that are starting or being removed included.
    :param startup: seconds that a launch with an image is expected to take; the empty image is the provider's own.
    :param refused_names: told a job's own labels and annotations, which of them it can't honour, by field, and why.
    :param failures: failed launches in a row.
    :param closed: why it takes nothing where it is not enabled.
    """

    name: str
    enabled: bool
    healthy: bool
    held: int
    max_workers: int
    images: bool = False
    resource_limits: bool = False
    refused_resources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_resources: wire.Resources = dataclasses.field(default_factory=wire.Resources)
    gpu_types: tuple[str, ...] = ()
    cost_per_hour: float = 0.0
    startup: Callable[[str], float] = lambda _image: 1.0
    regions: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused_names: RefusedNames = lambda _labels, _annotations: {}
    health_message: str = ""
    failures: int = 0
    closed: str = "it is not enabled"

    @property
    def room(self) -> int:
        """How many more workers it can hold."""
        return max(self.max_workers - self.held, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the scheduler makes of a provider for a job.

    :param eligible: it could take the job, now or later.
    :param room: it could take it now.
    """

    provider: str
    eligible: bool
    room: bool
    score: float
    reason: str


Score = Callable[[wire.JobSpec, Candidate], float]

STRATEGIES: dict[int, Score] = {
    wire.STRATEGY_LOWEST_COST: lambda _spec, candidate: -candidate.cost_per_hour,
    wire.STRATEGY_FASTEST_STARTUP: lambda spec, candidate: -candidate.startup(spec.image),
    wire.STRATEGY_MOST_CAPACITY: lambda _spec, candidate: float(candidate.room),
    wire.STRATEGY_HEALTHIEST: lambda _spec, candidate: -float(candidate.failures),
    wire.STRATEGY_LABELS: lambda spec, candidate: float(
        sum(candidate.labels.get(key) == value for key, value in spec.preferred_labels.items())
    ),
}


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
    return _resources(spec.resources, candidate)


def _resources(asked: wire.Resources, candidate: Candidate) -> str | None:
    for name in ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count"):
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


def not_now(candidate: Candidate) -> str | None:
    """Return why a provider takes nothing at the moment; None when it does."""
    if not candidate.enabled:
        return candidate.closed
    if not candidate.healthy:
        return f"it is not healthy: {candidate.health_message}"
    if not candidate.room:
        return f"it holds {candidate.held} of at most {candidate.max_workers} workers"
    return None


def rank(spec: wire.JobSpec, candidates: Sequence[Candidate], default: int) -> list[Verdict]:
    """Judge every provider for a job, the best first.

    :param default: the strategy of a job that names none.
    """
    score = STRATEGIES[spec.strategy or default]
    verdicts = []
    for candidate in candidates:
        against = never(spec, candidate)
        if against is not None:
            verdicts.append(Verdict(candidate.name, eligible=False, room=False, score=0.0, reason=against))
            continue
        waiting = not_now(candidate)
        reason = waiting or "it has room"
        points = score(spec, candidate)
        verdicts.append(Verdict(candidate.name, eligible=True, room=waiting is None, score=points, reason=reason))
    return sorted(verdicts, key=lambda each: (not each.eligible, not each.room, -each.score, each.provider))
