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
from hodei_server.work.decisions import encoded_decision
from hodei_server.work.placing import Placing

PROVIDERS = 100
#: Jobs that wait.
FEW, MANY = 100, 10_000


def decisions_a_second(queued: int, decisions: int) -> float:
    """Place the first jobs of a queue, each decision encoded as it is written down; the database is not in it.

    Per second of processor time: nothing here waits for anything.
    """
    candidates = [
        Candidate(f"p{n}", enabled=True, healthy=True, held=0, max_workers=50, start=lambda _image: Estimate(1.0, 9))
        for n in range(PROVIDERS)
    ]
    spec = wire.JobSpec(argv=["true"]).SerializeToString()
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
            job = wire.JobSpec.FromString(spec)
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
    rates: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(runs):
        # By turns: what else the machine does meets both.
        for queued, found in rates.items():
            found.append(decisions_a_second(queued, count))
    few, many = (statistics.median(rates[queued]) for queued in (FEW, MANY))
    note = f"{PROVIDERS} providers, ten tenants; by processor time, with the encoded record, without the database"
    return [
        Result(f"decisions.{FEW}-waiting", few, "/s", more_is_better=True, aim=1000, note=note),
        Result(f"decisions.{MANY}-waiting", many, "/s", more_is_better=True, aim=1000, note=note),
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
