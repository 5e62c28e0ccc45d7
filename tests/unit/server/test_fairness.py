"""Who is next, by the rules one at a time; test_simulation.py shows what they come to together."""

from __future__ import annotations

from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.fairness import FairQueue, Limits, Usage, queue_rank


def rows_of(tenant: str, count: int) -> list[dict[str, Any]]:
    """Return waiting jobs."""
    return [{"tenant": tenant, "queue_rank": n, "number": n} for n in range(count)]


def pull_from(rows: dict[str, list[dict[str, Any]]]) -> Any:
    """Return what gives a queue a page of these."""

    def pull(tenant: str, after: Any, limit: int) -> Any:
        rest = [row for row in rows[tenant] if after is None or row["queue_rank"] > after["queue_rank"]]
        return rest[:limit]

    return pull


def order(limits: dict[str, Limits], **waiting: int) -> str:
    """Return in which order jobs of tenants are placed, where there is room for all."""
    rows = {tenant: rows_of(tenant, count) for tenant, count in waiting.items()}
    queue = FairQueue(list(waiting), {}, limits, pull_from(rows), first=2, page=3, most=100)
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
    assert "3 of at most 4 processors" in (limits.exceeded(usage, wire.Resources(cpu_millis=1001)) or "")
    assert "MiB of memory" in (limits.never(wire.Resources(memory_bytes=101)) or "")


def test_a_job_that_waits_catches_up_with_a_more_important_one() -> None:
    """A point of priority is worth so much waiting, and no more."""
    old, new = queue_rank(0, 0, 60), queue_rank(119_000_000, 2, 60)
    assert new < old < queue_rank(121_000_000, 2, 60)


def test_no_job_waits_for_ever_behind_many_that_have_no_place() -> None:
    """Look after look goes on behind them, and begins anew at the end; half of each is from the front."""
    rows = {"a": rows_of("a", 25), "b": rows_of("b", 3)}
    left_off: Any = {}
    looks: list[list[int]] = []
    for _ in range(6):
        queue = FairQueue(["a", "b"], {}, {}, pull_from(rows), first=3, page=200, most=8, left_off=left_off)
        seen = list(queue)
        assert [row["number"] for row in seen if row["tenant"] == "b"] == [0, 1, 2]
        looks.append([row["number"] for row in seen if row["tenant"] == "a"])
        left_off = queue.left_off
    assert {number for look in looks for number in look} == set(range(25))
    assert all(look[:4] == [0, 1, 2, 3] and len(look) <= 8 for look in looks)
    assert looks[0] == [*range(8)]
    assert looks[1] == [*range(4), *range(8, 12)]


def test_a_tenant_that_stopped_at_its_cap_goes_on_with_the_job_it_stopped_at() -> None:
    """Else the jobs behind it would pass it, which is what the cap's order is against."""
    rows = {"a": rows_of("a", 25)}
    left_off: Any = {"a": {"queue_rank": 11, "number": 11}}
    limits = {"a": Limits(cpu_millis=1000)}
    stops = []
    for _ in range(3):
        queue = FairQueue(["a"], {}, limits, pull_from(rows), first=3, page=3, most=8, left_off=left_off)
        for row in queue:
            # The others find no place; this one would exceed its tenant's cap.
            if row["number"] == 13:
                assert queue.cap("a", wire.Resources(cpu_millis=2000))
            last = row["number"]
        stops.append(last)
        left_off = queue.left_off
    assert stops == [13, 13, 13]


def test_while_there_is_room_nowhere_only_the_front_is_looked_at() -> None:
    """It is to be written down why jobs wait: for a place nobody has to look further."""
    queue = FairQueue(["a"], {}, {}, pull_from({"a": rows_of("a", 25)}), first=20, page=200, most=6)
    assert [row["number"] for row in queue] == [*range(6)]
    assert queue.left_off == {}
