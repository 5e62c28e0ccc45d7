"""What a decision costs with a hundred providers, whatever the queue's length: ``python -m hodei_bench.decisions``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.fairness import FairQueue
from hodei_server.domain.measures import Estimate
from hodei_server.work.decisions import decision_message
from hodei_server.work.placing import Placing

PROVIDERS, DECISIONS = 100, 2000


def decisions_a_second(queued: int) -> float:
    """Place the first jobs of a queue, each decision encoded as it is written down; the database is not in it."""
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

    began, made = time.perf_counter(), 0
    while made < DECISIONS:
        placing = Placing(candidates, [], "most-capacity")
        queue = FairQueue(tenants, {}, {}, pull, first=20, page=20, most=1000)
        for row in queue:
            job = wire.JobSpec.FromString(spec)
            choice = placing.choose(job, row["tenant"], job_id=row["job_id"])
            decision_message(row["job_id"], job, choice, {}).SerializeToString()
            queue.placed(row["tenant"], job.resources)
            made += 1
            if made == DECISIONS:
                break
    return made / (time.perf_counter() - began)


def main() -> None:
    """Print a line for each length."""
    for queued in (100, 1000, 10_000):
        sys.stdout.write(f"{queued:>6} waiting, {PROVIDERS} providers: {decisions_a_second(queued):.0f} decisions/s\n")


if __name__ == "__main__":
    main()
