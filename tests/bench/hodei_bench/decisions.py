"""What a decision costs with a hundred providers, whatever the queue's length."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_bench.harness import Result, Setup, bench
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.fairness import FairQueue
from hodei_server.domain.measures import Estimate
from hodei_server.domain.prices import Prices, Rate
from hodei_server.work.decisions import encoded_decision
from hodei_server.work.placing import Placing

PROVIDERS = 100
#: Jobs that wait.
FEW, MANY = 100, 10_000


ALIKE = [wire.JobSpec(argv=["true"])]
STRATEGIES = [each for each in wire.Strategy.values() if each != wire.STRATEGY_UNSPECIFIED]
#: Jobs that differ in all that a verdict heeds: what they ask, where they may go, what is best.
MIXED = [
    wire.JobSpec(
        argv=["true"],
        image=f"image{number % 4}",
        resources=wire.Resources(cpu_millis=250 * (1 + number % 8), memory_bytes=(1 + number % 3) << 28),
        required_labels={"zone": f"z{number % 2}"} if number % 3 == 0 else {},
        preferred_labels={"disk": "ssd"} if number % 5 == 0 else {},
        strategy=STRATEGIES[number % len(STRATEGIES)],
    )
    for number in range(32)
]


def providers() -> list[Candidate]:
    """Return providers that differ in prices, labels, what is free and how they start."""
    return [
        Candidate(
            f"p{n}",
            enabled=True,
            healthy=True,
            held=0,
            max_workers=50,
            images=True,
            resource_limits=True,
            prices=Prices(cpu=Rate(1.0 + n % 7), gib=Rate(0.1 + n % 3)),
            start=lambda image, n=n: Estimate(1.0 + n % 11 + len(image) % 2, 9),  # type: ignore[misc]
            labels={"zone": f"z{n % 2}", "disk": "ssd" if n % 4 else "hdd"},
            health=1.0 - n % 5 / 10,
            free={"cpu_millis": 64_000 + 1000 * n, "memory_bytes": (64 + n) << 30},
        )
        for n in range(PROVIDERS)
    ]


def decisions_a_second(queued: int, decisions: int, jobs: Sequence[wire.JobSpec]) -> float:
    """Place the first jobs of a queue, each decision encoded as it is written down; the database is not in it.

    Per second of processor time: nothing here waits for anything.

    :param jobs: what the queue has, by turns.
    """
    candidates = providers()
    specs = [job.SerializeToString() for job in jobs]
    tenants = [f"t{n}" for n in range(10)]
    rows = {
        tenant: [
            {"tenant": tenant, "queue_rank": n, "number": n, "job_id": f"{tenant}-{n}"} for n in range(queued // 10)
        ]
        for tenant in tenants
    }

    def pull(tenant: str, after: Any, limit: int) -> Sequence[Mapping[str, Any]]:
        first = 0 if after is None else after["queue_rank"] + 1
        return rows[tenant][first : first + limit]

    began, made = time.process_time(), 0
    while made < decisions:
        placing = Placing(candidates, [], "most-capacity")
        queue = FairQueue(tenants, {}, {}, pull, first=20, page=20, most=1000)
        for row in queue:
            job = wire.JobSpec.FromString(specs[made % len(specs)])
            choice = placing.choose(job, row["tenant"], job_id=row["job_id"])
            encoded_decision(row["job_id"], job, choice, {})
            queue.placed(row["tenant"], job.resources)
            made += 1
            if made == decisions:
                break
    return made / (time.process_time() - began)


@bench("decisions")
async def decisions(setup: Setup) -> list[Result]:
    """Where a job goes, of a hundred providers, with few jobs waiting and with many."""
    count, runs = (200, 1) if setup.short else (2000, 5)
    rates: dict[str, list[float]] = {"few": [], "many": [], "mixed": []}
    for _ in range(runs):
        # By turns: what else the machine does meets all.
        rates["few"].append(decisions_a_second(FEW, count, ALIKE))
        rates["many"].append(decisions_a_second(MANY, count, ALIKE))
        rates["mixed"].append(decisions_a_second(MANY, count, MIXED))
    few, many, mixed = (statistics.median(found) for found in rates.values())
    note = f"{PROVIDERS} providers, ten tenants; by processor time, with the encoded record, without the database"
    kinds = f"jobs of {len(MIXED)} kinds, by turns; {note}"
    return [
        Result(f"decisions.{FEW}-waiting", few, "/s", more_is_better=True, aim=1000, note=note),
        Result(f"decisions.{MANY}-waiting", many, "/s", more_is_better=True, aim=1000, note=note),
        Result(f"decisions.{MANY}-mixed", mixed, "/s", more_is_better=True, aim=1000, note=kinds),
        Result(
            "decisions.flat",
            many,
            "/s",
            more_is_better=True,
            peer=few,
            peer_name=f"the same with {FEW} jobs waiting",
            aim=0.8,
            aim_of="ratio",
            note=f"{MANY:,} jobs waiting",
        ),
    ]
