"""Who is next: shown by thousands of simulated jobs, and by the rules one at a time."""

from __future__ import annotations

from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_bench.simulation import flood, waits
from hodei_server.domain.fairness import FairQueue, Limits, Usage, queue_rank


def test_a_flood_of_one_tenant_does_not_starve_the_others() -> None:
    """Nor do small jobs starve large ones, which have their room once others slipped past for a minute."""
    together, apart = waits(flood(1, fair=False, floods=1500)), waits(flood(1, fair=True, floods=1500))
    # Jobs last at most a minute, so a place is never far; in one queue the flood is in front of everybody.
    assert apart["steady"][2] < 60
    assert together["steady"][1] > 600
    assert apart["large"][2] < 60 + 120
    # What others get is the flood's only in part: it ends when it would anyway.
    assert apart["flood"][2] < 1.5 * together["flood"][2]


def test_without_room_kept_for_it_a_large_job_waits_for_the_flood_to_end() -> None:
    """That is what the reservation is for."""
    kept = waits(flood(1, fair=True, floods=1500))["large"]
    passed = waits(flood(1, fair=True, floods=1500, slip=float("inf")))["large"]
    assert passed[2] > 3 * kept[2]


def order(limits: dict[str, Limits], **waiting: int) -> str:
    """Return in which order jobs of tenants are placed, where there is room for all."""
    rows = {tenant: [{"tenant": tenant, "queue_rank": n} for n in range(count)] for tenant, count in waiting.items()}

    def pull(tenant: str, after: Any, limit: int) -> Any:
        first = 0 if after is None else after["queue_rank"] + 1
        return rows[tenant][first : first + limit]

    queue = FairQueue(list(waiting), {}, limits, pull, first=2, page=3, most=100)
    placed = ""
    for row in queue:
        if queue.cap(row["tenant"], wire.Resources()) is None:
            queue.placed(row["tenant"], wire.Resources())
            placed += row["tenant"]
    return placed


def test_tenants_take_turns_by_their_weights() -> None:
    """One of twice the weight has twice as many jobs; whoever has no more jobs leaves the rest to others."""
    assert order({}, a=3, b=3) == "ababab"
    assert sorted(order({"a": Limits(weight=2)}, a=20, b=20)[:9]) == sorted("aaaaaabbb")
    assert order({}, a=5, b=1) == "abaaaa"


def test_a_cap_stops_a_tenant_and_nobody_else() -> None:
    """All behind the first that would exceed it wait, so that a large job is not passed for ever."""
    assert order({"a": Limits(jobs=2)}, a=5, b=4) == "ababbb"
    limits = Limits(cpu_millis=4000, memory_bytes=100)
    usage = Usage()
    usage.add(wire.Resources(cpu_millis=3000))
    assert limits.exceeded(usage, wire.Resources(cpu_millis=1000)) is None
    assert "cpu_millis" in (limits.exceeded(usage, wire.Resources(cpu_millis=1001)) or "")
    assert "memory_bytes" in (limits.never(wire.Resources(memory_bytes=101)) or "")


def test_a_job_that_waits_catches_up_with_a_more_important_one() -> None:
    """A point of priority is worth so much waiting, and no more."""
    old, new = queue_rank(0, 0, 60), queue_rank(119_000_000, 2, 60)
    assert new < old < queue_rank(121_000_000, 2, 60)
