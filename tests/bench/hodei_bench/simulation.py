"""Thousands of jobs of several tenants on a clock of their own, through the code that the server places them with.

``python -m hodei_bench.simulation`` writes docs/placement.svg, and its table into docs/placement.md.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import heapq
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hodei.v1 import types_pb2 as wire
from hodei_bench.waits_picture import picture
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.fairness import Limits, Usage, queue_rank
from hodei_server.domain.reservations import Reservations
from hodei_server.settings import Settings
from hodei_server.work.placing import Placing
from hodei_server.work.scheduler import BEHIND_SECONDS
from hodei_server.work.turns import queue_of

DOCS = Path(__file__).parents[3] / "docs"
GIB = 1 << 30
#: Four providers of ten workers and 40 GiB each.
PROVIDERS, WORKERS, MEMORY = 4, 10, 40 * GIB
#: Seconds between which nothing comes or ends: what a look costs grows with the queue, and there are fewer of them so.
TICK = 4
#: The tenant `double` has twice the weight of any other, `capped` at most four jobs that run.
LIMITS = {"double": Limits(weight=2), "capped": Limits(jobs=4)}
#: What the server does where nothing is set.
AGEING, SLIP, HOLD = (float(Settings.model_fields[name].default) for name in ("priority_ageing", "slip", "slip_hold"))
#: More important jobs of the tenant with the flood, and how many seconds of waiting that is worth.
PRIORITY = 10
HEAD_START = PRIORITY * AGEING


#: A waiting job as the queue has it, with the job itself under ``job``.
Row: TypeAlias = Mapping[Any, Any]


@dataclasses.dataclass(eq=False)
class Job:
    """A job; times in seconds.

    :param kind: what it is counted as.
    :param queue: whose turn it takes: its tenant's, or everybody's.
    """

    kind: str
    queue: str
    submitted: float
    lasts: float
    gib: int = 1
    priority: int = 0
    started: float = -1.0
    provider: str = ""

    @property
    def waited(self) -> float:
        """Seconds from its submission to its start."""
        return self.started - self.submitted

    @property
    def spec(self) -> wire.JobSpec:
        """What it asks for."""
        return spec_of(self.gib)


@functools.cache
def spec_of(gib: int) -> wire.JobSpec:
    """Return the spec of all jobs that ask for so much."""
    return wire.JobSpec(argv=["true"], resources=wire.Resources(memory_bytes=gib * GIB))


def flood(seed: int, *, fair: bool, floods: int = 2000, slip: float = SLIP) -> list[Job]:
    """Run floods of three tenants, beside two that submit a job now and then, and large jobs of one of these.

    :param fair: each tenant has a queue, its weight and its cap; else all jobs are in one, by age and priority.
    :param floods: jobs of the largest flood.
    :param slip: as `HODEI_SLIP`.
    :return: the jobs, all of which have run.
    """
    chance = random.Random(seed)  # noqa: S311 - a repeatable simulation

    def some(kind: str, tenant: str, count: int, first: float = 0.0, every: float = 0.0, **rest: Any) -> list[Job]:
        queue = tenant if fair else "all"
        return [Job(kind, queue, first + n * every, chance.randrange(20, 61, TICK), **rest) for n in range(count)]

    jobs = some("flood", "flood", floods)
    jobs += some("double", "double", floods // 2)
    jobs += some("capped", "capped", floods // 20)
    jobs += some("steady", "steady", floods // 20, first=TICK, every=20.0)
    jobs += some("rare", "rare", floods // 120, first=TICK, every=120.0)
    jobs += some("large", "rare", floods // 300, first=TICK, every=300.0, gib=36)
    jobs += some("urgent, at once", "flood", 9, first=60.0, every=60.0, priority=PRIORITY)
    jobs += some("urgent, later", "flood", 9, first=HEAD_START + 60.0, every=60.0, priority=PRIORITY)
    Simulation(LIMITS if fair else {}, Reservations(slip, HOLD)).run(jobs)
    return jobs


class Simulation:
    """Lets jobs come, be placed and end, on a clock of its own."""

    def __init__(self, limits: Mapping[str, Limits], reservations: Reservations) -> None:
        self._limits, self._reservations = limits, reservations
        self._waiting: dict[str, list[Row]] = collections.defaultdict(list)
        self._running: list[tuple[float, int, Job]] = []
        self._left_off: Mapping[str, Row] = {}
        self._whole_at = float("-inf")

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all of them."""
        coming = collections.deque(sorted(enumerate(jobs), key=lambda each: each[1].submitted))
        while coming or self._running:
            times = [coming[0][1].submitted] if coming else []
            now = min(times + [each[0] for each in self._running[:1]])
            while self._running and self._running[0][0] <= now:
                heapq.heappop(self._running)
            while coming and coming[0][1].submitted <= now:
                number, job = coming.popleft()
                rank = queue_rank(int(job.submitted * 1e6), job.priority, AGEING)
                row: Row = {"tenant": job.queue, "queue_rank": rank, "number": number, "job": job}
                bisect.insort(self._waiting[job.queue], row, key=_standing)
            for row in self._look(now):
                self._waiting[row["tenant"]].remove(row)
                heapq.heappush(self._running, (now + row["job"].lasts, row["number"], row["job"]))
        if any(self._waiting.values()):
            raise AssertionError("jobs wait, and nothing will ever end")

    def _candidates(self) -> list[Candidate]:
        there: dict[str, list[int]] = {f"p{n}": [] for n in range(PROVIDERS)}
        for _, _, job in self._running:
            there[job.provider].append(job.gib)
        return [
            Candidate(
                name,
                enabled=True,
                healthy=True,
                held=len(gibs),
                max_workers=WORKERS,
                resource_limits=True,
                free={"memory_bytes": MEMORY - sum(gibs) * GIB},
            )
            for name, gibs in there.items()
        ]

    def _pull(self, tenant: str, after: Row | None, limit: int) -> Sequence[Row]:
        rows = self._waiting[tenant]
        first = 0 if after is None else bisect.bisect_right(rows, _standing(after), key=_standing)
        return rows[first : first + limit]

    def _look(self, now: float) -> list[Row]:
        """Place what can be placed, as the scheduler does in one transaction."""
        usage: dict[str, Usage] = {}
        for _, _, job in self._running:
            usage.setdefault(job.queue, Usage()).add(job.spec.resources)
        placing = Placing(self._candidates(), [], "most-capacity", reservations=self._reservations, now=now)
        tenants = [tenant for tenant, rows in self._waiting.items() if rows]
        queue, full_page = queue_of(
            tenants, usage, self._limits, self._pull, free=placing.free, left_off=self._left_off
        )
        if placing.free:
            self._left_off = queue.left_off
        whole = now - self._whole_at >= BEHIND_SECONDS
        placed: list[Row] = []
        beyond: collections.Counter[str] = collections.Counter()
        for row in queue:
            job, tenant = row["job"], row["tenant"]
            spec = job.spec
            if queue.cap(tenant, spec.resources) is None:
                choice = placing.choose(spec, tenant, job_id=str(row["number"]), waited=now - job.submitted)
                if choice.place is not None:
                    queue.placed(tenant, spec.resources)
                    job.started, job.provider = now, choice.place.provider
                    placed.append(row)
            if placing.free <= 0:
                if not whole:
                    break
                beyond[tenant] += 1
                if beyond[tenant] >= full_page:
                    queue.leave(tenant)
        else:
            whole = True
        if whole:
            self._whole_at = now
        return placed


def _standing(row: Row) -> tuple[int, int]:
    return row["queue_rank"], row["number"]


def waits(jobs: Sequence[Job]) -> dict[str, tuple[int, float, float]]:
    """Return how many jobs there were of each kind, the median of their waits and the longest, in seconds."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        found.setdefault(job.kind, []).append(job.waited)
    return {kind: (len(each), statistics.median(each), max(each)) for kind, each in sorted(found.items())}


@functools.cache
def published() -> tuple[Sequence[Job], Sequence[Job], Sequence[Job]]:
    """Return what docs/placement.md shows: one queue for all, one for each tenant, and these with no room kept."""
    return flood(1, fair=False), flood(1, fair=True), flood(1, fair=True, slip=float("inf"))


def figures() -> tuple[str, str]:
    """Return the table of docs/placement.md, and the picture beside it."""
    lines = [
        "| jobs | how many | one queue: median, longest | by tenant: median, longest | by tenant, no room kept |",
        "|---|---|---|---|---|",
    ]
    each = [waits(jobs) for jobs in published()]
    for kind, (count, _, _) in each[0].items():
        cells = [f"{found[kind][1]:.0f} s, {found[kind][2]:.0f} s" for found in each]
        lines.append(f"| {kind} | {count} | {' | '.join(cells)} |")
    steady = [[(job.submitted, job.waited) for job in jobs if job.kind == "steady"] for jobs in published()[:2]]
    return "\n".join(lines) + "\n", picture(*steady)


def with_table(page: str, table: str) -> str:
    """Return docs/placement.md with this table in the place of the one that it has."""
    before, _, rest = page.partition(table.partition("\n")[0])
    return before + table + rest[rest.index("\n\n") + 1 :]


def main() -> None:
    """Write the picture and the table."""
    table, drawn = figures()
    (DOCS / "placement.svg").write_text(drawn)
    page = DOCS / "placement.md"
    page.write_text(with_table(page.read_text(), table))


if __name__ == "__main__":
    main()
