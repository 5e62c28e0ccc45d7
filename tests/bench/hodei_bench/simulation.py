"""Thousands of jobs of several tenants on a clock of their own, through the code that the server places them with.

``python -m hodei_bench.simulation`` writes docs/placement.svg and prints the table that docs/placement.md shows.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.fairness import FairQueue, Limits, Usage
from hodei_server.domain.reservations import Reservations
from hodei_server.work.placing import Placing

PICTURE = Path(__file__).parents[3] / "docs/placement.svg"
GIB = 1 << 30
#: Four providers of ten workers and 40 GiB each.
PROVIDERS, WORKERS, MEMORY = 4, 10, 40 * GIB
SLIP, HOLD = 60.0, 600.0


@dataclasses.dataclass
class Job:
    """A job; times in seconds.

    :param queue: whose turn it takes: its tenant's, or everybody's.
    """

    name: str
    tenant: str
    queue: str
    submitted: float
    lasts: float
    gib: int = 1
    started: float = -1.0
    provider: str = ""

    @property
    def waited(self) -> float:
        """Seconds from its submission to its start."""
        return self.started - self.submitted


def flood(seed: int, *, fair: bool, floods: int = 3000, slip: float = SLIP) -> list[Job]:
    """Run a flood of one tenant, two that submit a job now and then, and large jobs of one of these.

    :param fair: each tenant has a queue; else all jobs are in one, in the order of their submission.
    :param slip: as `HODEI_SLIP`.
    :return: the jobs, all of which have run.
    """
    chance = random.Random(seed)  # noqa: S311 - a repeatable simulation
    jobs = [Job(f"flood-{n}", "flood", "flood", 0.0, chance.uniform(20, 60)) for n in range(floods)]
    for tenant, every in (("steady", 15.0), ("rare", 120.0)):
        jobs += [
            Job(f"{tenant}-{n}", tenant, tenant, n * every + 1, chance.uniform(20, 60))
            for n in range(int(floods / every))
        ]
    jobs += [Job(f"large-{n}", "rare", "rare", 300.0 * n + 5, 60.0, gib=36) for n in range(floods // 300)]
    for job in jobs:
        job.queue = job.queue if fair else "all"
    return run(jobs, Reservations(slip, HOLD))


def run(jobs: Sequence[Job], reservations: Reservations) -> list[Job]:
    """Let jobs come, be placed and end."""
    coming = sorted(jobs, key=lambda job: job.submitted)
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    running: list[tuple[float, str, Job]] = []
    number, ended = 0, 0
    while ended < len(jobs):
        now = min(
            coming[number].submitted if number < len(coming) else float("inf"),
            running[0][0] if running else float("inf"),
        )
        if now == float("inf"):
            raise AssertionError("jobs wait, and nothing will ever end")
        while running and running[0][0] <= now:
            heapq.heappop(running)
            ended += 1
        while number < len(coming) and coming[number].submitted <= now:
            job = coming[number]
            row = {"tenant": job.queue, "queue_rank": int(job.submitted * 1e6), "number": number, "job": job}
            waiting.setdefault(job.queue, []).append(row)
            number += 1
        for job in _look(waiting, [job for _, _, job in running], reservations, now):
            heapq.heappush(running, (now + job.lasts, job.name, job))
    return list(jobs)


def _look(
    waiting: dict[str, list[Mapping[str, Any]]], running: Sequence[Job], reservations: Reservations, now: float
) -> list[Job]:
    """Place what can be placed, as the scheduler does in one transaction."""
    usage: dict[str, Usage] = {}
    candidates = []
    for name in (f"p{n}" for n in range(PROVIDERS)):
        there = [job for job in running if job.provider == name]
        free = MEMORY - sum(job.gib for job in there) * GIB
        candidates.append(
            Candidate(
                name,
                enabled=True,
                healthy=True,
                held=len(there),
                max_workers=WORKERS,
                resource_limits=True,
                free={"memory_bytes": free},
            )
        )
    for job in running:
        usage.setdefault(job.queue, Usage()).add(_spec(job).resources)

    def pull(tenant: str, after: Any, limit: int) -> Sequence[Mapping[str, Any]]:
        rows = waiting.get(tenant, [])
        first = 0 if after is None else next(n for n, row in enumerate(rows) if row is after) + 1
        return rows[first : first + limit]

    placing = Placing(candidates, [], "most-capacity", reservations=reservations, now=now)
    tenants = [tenant for tenant, rows in waiting.items() if rows]
    queue = FairQueue(tenants, usage, {"*": Limits()}, pull, first=20, page=20, most=20)
    placed: list[Job] = []
    for row in queue:
        job = row["job"]
        spec = _spec(job)
        place = placing.choose(spec, job.queue, job_id=job.name, waited=now - job.submitted).place
        if place is not None:
            queue.placed(job.queue, spec.resources)
            job.started, job.provider = now, place.provider
            placed.append(job)
    for job in placed:
        waiting[job.queue] = [row for row in waiting[job.queue] if row["job"] is not job]
    return placed


def _spec(job: Job) -> wire.JobSpec:
    return wire.JobSpec(argv=["true"], resources=wire.Resources(memory_bytes=job.gib * GIB))


def kind_of(job: Job) -> str:
    """Return what a job is counted as."""
    return "large" if job.name.startswith("large") else job.tenant


def waits(jobs: Sequence[Job]) -> dict[str, tuple[int, float, float]]:
    """Return how many jobs there were of each kind, the median of their waits and the longest, in seconds."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        found.setdefault(kind_of(job), []).append(job.waited)
    return {kind: (len(each), statistics.median(each), max(each)) for kind, each in sorted(found.items())}


def picture(one_queue: Sequence[Job], fair: Sequence[Job]) -> str:
    """Return the waits of the tenant `steady` over time, as SVG."""
    width, height = 640, 240
    shown = [(jobs, colour) for jobs, colour in ((one_queue, "#c0392b"), (fair, "#2471a3"))]
    most_x = max(job.submitted for job in fair if kind_of(job) == "steady")
    most_y = max(job.waited for jobs, _ in shown for job in jobs if kind_of(job) == "steady")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12">',
        '<g font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M50 10V210H{width - 10}" fill="none" stroke="#555"/>',
        f'<text x="4" y="16">{most_y:.0f} s</text><text x="30" y="210">0</text>',
        '<text x="50" y="230">submitted after 0 s</text>',
        f'<text x="{width - 10}" y="230" text-anchor="end">{most_x:.0f} s</text>',
        '<text x="330" y="24" fill="#c0392b">one queue for all</text>',
        '<text x="330" y="40" fill="#2471a3">a queue for each tenant, by what it has</text>',
    ]
    for jobs, colour in shown:
        points = " ".join(
            f"{50 + job.submitted / most_x * (width - 60):.0f},{210 - job.waited / most_y * 200:.0f}"
            for job in sorted(jobs, key=lambda job: job.submitted)
            if kind_of(job) == "steady"
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "\n".join([*lines, "</g></svg>"]) + "\n"


def published() -> tuple[str, str]:
    """Return the picture and the table that docs/placement.md shows."""
    one_queue, fair = flood(1, fair=False), flood(1, fair=True)
    without, together = waits(flood(1, fair=True, slip=float("inf"))), waits(one_queue)
    lines = [
        "| jobs | how many | one queue: median, longest | by tenant: median, longest | by tenant, no room kept |",
        "|---|---|---|---|---|",
    ]
    for kind, (count, median, most) in waits(fair).items():
        cells = [f"{together[kind][1]:.0f} s, {together[kind][2]:.0f} s", f"{median:.0f} s, {most:.0f} s"]
        cells.append(f"{without[kind][1]:.0f} s, {without[kind][2]:.0f} s")
        lines.append(f"| {kind} | {count} | {' | '.join(cells)} |")
    return picture(one_queue, fair), "\n".join(lines) + "\n"


def main() -> None:
    """Write the picture, and print the table."""
    drawn, table = published()
    PICTURE.write_text(drawn)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
