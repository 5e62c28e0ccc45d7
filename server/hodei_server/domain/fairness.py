"""The order in which waiting jobs are looked at: a tenant's own by age and priority, tenants by what they have. Pure.

Within a tenant: a job of priority p stands where one of priority 0 would that was submitted p times `ageing` seconds
before it. All jobs age alike, so their order never changes, and one column of the database holds it.

Between tenants: the next job is one of the tenant that has least for its weight. What a tenant has is the sum over
its jobs that have a worker; a job counts as its processors, or as its memory where that is more (4 GiB are a
processor), and at least as one. So whoever submits ten thousand jobs waits for themselves, and a tenant that has
nothing is next.

A look sees so many jobs of each tenant and no more. Half of them are from the front; the other half goes on where the
look before has ended, and begins anew behind the front at the queue's end. So jobs that have a place have their turn
however many are before them that have none.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hodei.v1 import types_pb2 as wire

#: So much memory counts as much as a processor.
MEMORY_OF_A_PROCESSOR = 4 << 30
#: What caps are told in.
_UNITS = {"cpu_millis": (1000, "processors"), "memory_bytes": (1 << 20, "MiB of memory")}
#: The limits of tenants that are not named.
ANYBODY = "*"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """A tenant's share and caps, over the jobs that have a worker; None is no cap."""

    weight: float = 1.0
    jobs: int | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None

    def never(self, asked: wire.Resources) -> str | None:
        """Return why a job can never run for its tenant; None when it can."""
        return self.exceeded(Usage(), asked)

    def exceeded(self, usage: Usage, asked: wire.Resources) -> str | None:
        """Return which cap a further job would exceed, in words."""
        if self.jobs is not None and usage.jobs + 1 > self.jobs:
            return f"its tenant has {usage.jobs} of at most {self.jobs} jobs running"
        for name, (unit, words) in _UNITS.items():
            has, most, wanted = getattr(usage, name), getattr(self, name), getattr(asked, name)
            if most is not None and wanted and has + wanted > most:
                return (
                    f"its tenant has {has / unit:g} of at most {most / unit:g} {words} in use, "
                    f"and it asks for {wanted / unit:g}"
                )
        return None


@dataclasses.dataclass(slots=True)
class Usage:
    """What a tenant has."""

    jobs: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0
    burden: float = 0.0

    def add(self, asked: wire.Resources, count: int = 1) -> None:
        """Count jobs that ask for these resources each."""
        self.jobs += count
        self.cpu_millis += asked.cpu_millis * count
        self.memory_bytes += asked.memory_bytes * count
        self.burden += burden(asked) * count


def burden(asked: wire.Resources) -> float:
    """Return what a job counts for."""
    return max(asked.cpu_millis / 1000, asked.memory_bytes / MEMORY_OF_A_PROCESSOR, 1.0)


def queue_rank(submitted_at: int, priority: int, ageing: float) -> int:
    """Return what sorts a tenant's jobs, the lowest first.

    :param submitted_at: microseconds.
    :param ageing: seconds of waiting that a point of priority is worth.
    """
    return submitted_at - int(priority * ageing * 1e6)


#: Returns a tenant's waiting jobs in order, so many at most, after one; None is before the first.
Pull = Callable[[str, Mapping[Any, Any] | None, int], Sequence[Mapping[Any, Any]]]


class FairQueue:
    """Yields waiting jobs in the order in which they are to be looked at; the caller says which were placed.

    :param tenants: that have waiting jobs.
    :param usage: what each tenant has; counted on as jobs are placed.
    :param limits: by tenant; of `ANYBODY` for those that are not named.
    :param first: how many jobs of each tenant are pulled at first.
    :param most: how many jobs of each tenant are looked at.
    :param left_off: where the look before has ended, by tenant; all are from the front where None.
    :ivar left_off: where this one has ended, as far as it was behind the front.
    :ivar capped: tenants that had to stop, and why.
    """

    def __init__(
        self,
        tenants: Sequence[str],
        usage: dict[str, Usage],
        limits: Mapping[str, Limits],
        pull: Pull,
        *,
        first: int,
        page: int,
        most: int,
        left_off: Mapping[str, Mapping[Any, Any]] | None = None,
    ) -> None:
        self.capped: dict[str, str] = {}
        self.left_off = {tenant: row for tenant, row in (left_off or {}).items() if tenant in tenants}
        self._usage = usage
        self._limits = limits
        self._left: set[str] = set()
        self._pull = pull
        self._first, self._page = first, page
        self._front, self._behind = (most, 0) if left_off is None else (max(most - most // 2, 1), most // 2)
        self._jobs = {tenant: self._of(tenant) for tenant in tenants}

    def limits(self, tenant: str) -> Limits:
        """Return a tenant's limits."""
        return limits_of(self._limits, tenant)

    def _of(self, tenant: str) -> Iterator[Mapping[Any, Any]]:
        last = None
        for last in self._some(tenant, None, self._front):
            yield last
        if last is None or not self._behind:
            return
        after = max(last, self.left_off.get(tenant, last), key=_standing)
        for row in self._some(tenant, after, self._behind):
            yield row
            # Only now: where its tenant had to stop at it, it is the next one, too.
            self.left_off[tenant] = {"queue_rank": row["queue_rank"], "number": row["number"]}

    def _some(self, tenant: str, after: Mapping[Any, Any] | None, most: int) -> Iterator[Mapping[Any, Any]]:
        limit = min(self._first, most)
        while most > 0:
            page = self._pull(tenant, after, limit)
            yield from page
            if len(page) < limit:
                self.left_off.pop(tenant, None)
                return
            after, most = page[-1], most - len(page)
            limit = min(self._page, most)

    def __iter__(self) -> Iterator[Mapping[Any, Any]]:
        """Yield jobs: mappings with ``tenant``, ``queue_rank`` and ``number`` at least."""
        heads: list[tuple[float, int, str, Mapping[Any, Any]]] = []

        def push(tenant: str) -> None:
            job = next(self._jobs[tenant], None)
            if job is not None:
                load = self._usage.setdefault(tenant, Usage()).burden / self.limits(tenant).weight
                heapq.heappush(heads, (load, job["queue_rank"], tenant, job))

        for tenant in self._jobs:
            push(tenant)
        while heads:
            _, _, tenant, job = heapq.heappop(heads)
            yield job
            if tenant not in self.capped and tenant not in self._left:
                push(tenant)

    def cap(self, tenant: str, asked: wire.Resources) -> str | None:
        """Return which cap of its tenant a job would exceed; its tenant's later jobs then wait behind it."""
        reason = self.limits(tenant).exceeded(self._usage.setdefault(tenant, Usage()), asked)
        if reason is not None:
            self.capped[tenant] = reason
        return reason

    def leave(self, tenant: str) -> None:
        """Look at no more jobs of a tenant."""
        self._left.add(tenant)

    def placed(self, tenant: str, asked: wire.Resources) -> None:
        """Count a job that has got a place."""
        self._usage.setdefault(tenant, Usage()).add(asked)


def _standing(job: Mapping[Any, Any]) -> tuple[int, int]:
    return job["queue_rank"], job["number"]


def limits_of(limits: Mapping[str, Limits], tenant: str) -> Limits:
    """Return a tenant's limits."""
    return limits.get(tenant) or limits.get(ANYBODY) or Limits()
