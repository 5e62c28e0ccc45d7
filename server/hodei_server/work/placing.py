"""Where waiting jobs can go, by one look at workers and providers: what is free shrinks as jobs take it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.strategies import Candidate, Verdict, rank, refused_names

#: The tenant of a worker that has run nothing yet: nobody's, so anybody's first.
NO_TENANT = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a job goes: to an idle worker, or to one that is to be launched.

    :param worker_id: the idle one; None where one is to be launched.
    """

    provider: str
    worker_id: str | None


class Placing:
    """Chooses for one job after the other.

    :param candidates: makes the providers as strategies see them, from how many workers each holds.
    :param enabled: providers that take jobs.
    :param held: how many workers each provider has; counted on as jobs are given to new ones.
    :param idle: workers that wait, in the order in which they are to be taken.
    :param strategy: of jobs that name none.
    """

    def __init__(
        self,
        candidates: Callable[[dict[str, int]], list[Candidate]],
        enabled: frozenset[str],
        held: dict[str, int],
        idle: Sequence[RowMapping],
        strategy: int,
    ) -> None:
        self._make_candidates = candidates
        self._enabled = enabled
        self._held = held
        self._strategy = strategy
        self._idle: dict[tuple[str, str, str, bytes], collections.deque[str]] = {}
        for row in idle:
            key = (row["provider"], row["tenant"], row["image"], row["resources"])
            self._idle.setdefault(key, collections.deque()).append(row["worker_id"])
        self._idle_count = len(idle)
        self._candidates = candidates(held)
        # Jobs that ask for the same are judged once; what changes the verdict, a launch, begins anew.
        self._judged: dict[object, list[Verdict]] = {}
        #: How many jobs there was no place for at a provider because it is full.
        self.crowded: collections.Counter[str] = collections.Counter()

    @property
    def free(self) -> int:
        """How many jobs could find a place at most."""
        room = sum(each.room for each in self._candidates if each.healthy and each.name in self._enabled)
        return self._idle_count + room

    def choose(self, spec: wire.JobSpec, tenant: str) -> Place | None:
        """Return a job's place, and count it as taken; None when there is none now."""
        resources = spec.resources.SerializeToString(deterministic=True)
        verdicts = self._verdicts(spec, resources)
        for verdict in verdicts:
            for owner in (tenant, NO_TENANT):
                waiting = self._idle.get((verdict.provider, owner, spec.image, resources))
                if waiting:
                    self._idle_count -= 1
                    return Place(verdict.provider, waiting.popleft())
        chosen = next((verdict.provider for verdict in verdicts if verdict.room), None)
        if chosen is None:
            self.crowded.update(verdict.provider for verdict in verdicts)
            return None
        self._held[chosen] = self._held.get(chosen, 0) + 1
        self._candidates = self._make_candidates(self._held)
        self._judged.clear()
        return Place(chosen, None)

    def in_the_way(self) -> list[str]:
        """Return idle workers that keep jobs from a full provider and that none of these jobs can have."""
        found: list[str] = []
        for (provider, *_), waiting in self._idle.items():
            while waiting and self.crowded[provider] > 0:
                self.crowded[provider] -= 1
                found.append(waiting.popleft())
        return found

    def _verdicts(self, spec: wire.JobSpec, resources: bytes) -> list[Verdict]:
        """Return the providers that are open to a job, the best first."""
        key = (
            tuple(spec.providers),
            spec.image,
            spec.region,
            spec.strategy,
            resources,
            tuple(sorted(spec.required_labels.items())),
            tuple(sorted(spec.preferred_labels.items())),
            # Most jobs' own names are refused by nobody: these are judged as one.
            tuple(each.name for each in self._candidates if refused_names(spec, each)),
        )
        verdicts = self._judged.get(key)
        if verdicts is None:
            verdicts = [
                verdict
                for verdict in rank(spec, self._candidates, self._strategy)
                if verdict.eligible and verdict.provider in self._enabled
            ]
            self._judged[key] = verdicts
        return verdicts
