"""Where waiting jobs can go, by one look at workers and providers: what is free shrinks as jobs take it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.prices import GPU_TYPE_LABEL
from hodei_server.domain.reservations import Reservations
from hodei_server.domain.strategies import (
    NAMES,
    STRATEGIES,
    Score,
    judge,
    refused_names,
    score_of,
    strategy_of,
)
from hodei_server.domain.verdicts import Ranking, Standing, Verdict

#: The tenant of a worker that has run nothing yet: nobody's, so anybody's first.
NO_TENANT = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a job goes: to an idle worker, or to one that is to be launched.

    :param worker_id: the idle one; None where one is to be launched.
    """

    provider: str
    worker_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What was made of one job.

    :param place: None where there is none now.
    :param verdicts: of every provider.
    """

    place: Place | None
    strategy: str
    verdicts: Ranking


class _Judged:
    """What is known for jobs that ask for the same, and up to which change of the providers."""

    __slots__ = ("changes", "ranking", "verdicts")

    def __init__(self) -> None:
        self.changes = 0
        self.verdicts: dict[str, Verdict] = {}
        self.ranking = Ranking()


class Placing:
    """Chooses for one job after the other.

    :param candidates: the providers.
    :param idle: workers that wait, in the order in which they are to be taken.
    :param strategy: of jobs that name none.
    :param reservations: room that is kept for large jobs; none is kept where None.
    :param now: monotonic seconds, for these.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        idle: Sequence[Mapping[Any, Any]],
        strategy: str,
        *,
        strategies: Mapping[str, Score] = STRATEGIES,
        reservations: Reservations | None = None,
        now: float = 0.0,
    ) -> None:
        self._candidates = {each.name: each for each in candidates}
        self._strategy, self._strategies = strategy, strategies
        self._idle: dict[tuple[str, str, str, bytes], collections.deque[str]] = {}
        for row in idle:
            key = (row["provider"], row["tenant"], row["image"], row["resources"])
            self._idle.setdefault(key, collections.deque()).append(row["worker_id"])
        #: How many jobs could find a place at most.
        self.free = len(idle) + sum(each.room for each in candidates if each.healthy and each.enabled)
        # Jobs that ask for the same are judged once; then anew only those providers that have changed since.
        self._judged: dict[object, _Judged] = {}
        self._changes: list[str] = []
        self._keys = _keys_that_count(candidates)
        #: How many jobs there was no place for at a provider because it is full.
        self.crowded: collections.Counter[str] = collections.Counter()
        self._reservations, self._now = reservations, now
        if reservations is not None:
            reservations.begin(now)
            for provider, kept in reservations.held():
                self._take(provider, kept.asked)

    def _take(self, provider: str, asked: wire.Resources) -> None:
        candidate = self._candidates.get(provider)
        if candidate is not None:
            self._candidates[provider] = candidate.with_another(asked)
            self._changes.append(provider)

    def choose(
        self,
        spec: wire.JobSpec,
        tenant: str,
        *,
        job_id: str = "",
        waited: float = 0.0,
        avoid: frozenset[str] = frozenset(),
    ) -> Choice:
        """Find a job's place, and count it as taken.

        :param waited: seconds that the job has waited for.
        :param avoid: providers that have failed it before: taken only where no other has room.
        """
        resources = spec.resources.SerializeToString(deterministic=True)
        self._release(job_id)
        ranking = self._ranked(spec, tenant, resources)
        strategy = strategy_of(spec, self._strategy)
        best = next(iter(ranking.avoiding(avoid)), None)
        if best is None or not best.room:
            self.crowded.update(each.provider for each in ranking if each.standing is Standing.FULL)
            self._reserve(spec.resources, ranking, job_id, waited)
            return Choice(None, strategy, ranking)
        self.free -= 1
        if self._reservations is not None:
            self._reservations.release(job_id)
        if best.inputs.ready:
            worker_id = self._pop(best.provider, tenant, spec.image, resources)
            self._changes.append(best.provider)
            return Choice(Place(best.provider, worker_id), strategy, ranking)
        self._take(best.provider, spec.resources)
        return Choice(Place(best.provider, None), strategy, ranking)

    def _pop(self, provider: str, tenant: str, image: str, resources: bytes) -> str:
        for owner in (tenant, NO_TENANT):
            waiting = self._idle.get((provider, owner, image, resources))
            if waiting:
                return waiting.popleft()
        raise AssertionError(f"a worker of {provider} was said to wait")

    def _release(self, job_id: str) -> None:
        """Give the room that is kept for a job back to be judged, by itself first."""
        if self._reservations is None or not job_id:
            return
        kept = next((each for _, each in self._reservations.held() if each.job_id == job_id), None)
        if kept is None:
            return
        self._reservations.see(job_id, self._now)
        provider = self._reservations.provider_of(job_id)
        candidate = self._candidates.get(provider or "")
        if provider is not None and candidate is not None:
            free = {name: left + getattr(kept.asked, name) for name, left in candidate.free.items()}
            self._candidates[provider] = dataclasses.replace(candidate, held=candidate.held - 1, free=free)
            self._changes.append(provider)

    def _reserve(self, asked: wire.Resources, verdicts: Ranking, job_id: str, waited: float) -> None:
        """Keep room for a job that has been passed for long enough, where least is missing."""
        kept = self._reservations
        if kept is None or not job_id:
            return
        provider = kept.provider_of(job_id)
        if provider is None and waited > kept.slip:
            short = [
                (-self._share(asked, each.provider), each.provider)
                for each in verdicts
                if each.standing is Standing.FULL
                and self._candidates[each.provider].room
                and kept.may(job_id, each.provider)
            ]
            if short:
                provider = min(short)[1]
                kept.keep(provider, job_id, asked, self._now)
        if provider is not None:
            self._take(provider, asked)

    def _share(self, asked: wire.Resources, provider: str) -> float:
        """Return how much there is of what a job asks, of what is scarcest."""
        free = self._candidates[provider].free
        return min((left / getattr(asked, name) for name, left in free.items() if getattr(asked, name)), default=1.0)

    def in_the_way(self) -> list[str]:
        """Return idle workers that keep jobs from a full provider and that none of these jobs can have."""
        found: list[str] = []
        for (provider, *_), waiting in self._idle.items():
            while waiting and self.crowded[provider] > 0:
                self.crowded[provider] -= 1
                found.append(waiting.popleft())
        return found

    def _ranked(self, spec: wire.JobSpec, tenant: str, resources: bytes) -> Ranking:
        """Return the verdicts of all providers."""
        key = self._key(spec, tenant, resources)
        judged = self._judged.get(key)
        if judged is None:
            judged = self._judged[key] = _Judged()
            changed = set(self._candidates)
        else:
            changed = set(self._changes[judged.changes :])
        if changed:
            score = score_of(strategy_of(spec, self._strategy), self._strategies)
            for name in changed:
                ready = any(self._idle.get((name, owner, spec.image, resources)) for owner in (tenant, NO_TENANT))
                judged.verdicts[name] = judge(spec, self._candidates[name], score, ready=ready)
            judged.ranking = Ranking.of(judged.verdicts.values())
        judged.changes = len(self._changes)
        return judged.ranking

    def _key(self, spec: wire.JobSpec, tenant: str, resources: bytes) -> object:
        """Return what jobs have in common that are judged alike."""
        if spec.custom_strategy or self._strategy not in NAMES.values():
            return spec.SerializeToString(deterministic=True), tenant
        own = tuple((key, spec.labels.get(key), spec.annotations.get(key)) for key in self._keys)
        return (
            tuple(spec.providers),
            spec.image,
            spec.region,
            spec.architecture,
            spec.strategy,
            resources,
            tuple(sorted(spec.required_labels.items())),
            tuple(sorted(spec.preferred_labels.items())),
            own,
            self._refusing(spec),
            tenant if self._idle else "",
        )

    def _refusing(self, spec: wire.JobSpec) -> tuple[str, ...]:
        """Return who refuses a job's own names. Most jobs' are refused by nobody: these are judged as one."""
        if not spec.labels and not spec.annotations:
            return ()
        return tuple(name for name, each in self._candidates.items() if refused_names(spec, each))


def _keys_that_count(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the keys of jobs' labels and annotations that a verdict may depend on."""
    keys: set[str] = set()
    for each in candidates:
        keys |= set(each.labels) | set(each.annotations)
        for rate in (each.prices.worker, each.prices.cpu, each.prices.gib, each.prices.gpu):
            keys |= {key for key, _ in rate.where}
    return tuple(sorted(keys - {GPU_TYPE_LABEL}))
