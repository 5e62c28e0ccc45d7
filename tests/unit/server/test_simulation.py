"""Thousands of jobs on a clock of their own, as docs/placement.md shows them: who waits, and for how long."""

from __future__ import annotations

import heapq

from hodei_bench.simulation import DOCS, LIMITS, Job, figures, published, waits, with_table

ONE_QUEUE, BY_TENANT, NO_ROOM_KEPT = range(3)


def of(kind: str) -> list[Job]:
    """Return the jobs of one kind, where each tenant has a queue."""
    return [job for job in published()[BY_TENANT] if job.kind == kind]


def test_the_page_shows_what_the_simulation_comes_to() -> None:
    """Nobody writes figures by hand, and none is older than the rules: python -m hodei_bench.simulation."""
    table, picture = figures()
    page = (DOCS / "placement.md").read_text()
    assert with_table(page, table) == page
    assert (DOCS / "placement.svg").read_text() == picture
    assert len(published()[BY_TENANT]) > 3000


def test_the_flood_of_one_tenant_does_not_starve_the_others() -> None:
    """Jobs last at most a minute, so a place is never far; in one queue the flood is in front of everybody."""
    together, apart = waits(published()[ONE_QUEUE]), waits(published()[BY_TENANT])
    for kind in ("steady", "rare"):
        assert apart[kind][2] < 60
        assert together[kind][1] > 600
    # The places are in use all the time: who floods is done at about the time at which everybody would be.
    ended = [max(job.started for job in jobs) for jobs in published()]
    assert ended[BY_TENANT] < 1.1 * ended[ONE_QUEUE]


def test_a_large_job_has_its_room_once_others_slipped_past_for_a_minute() -> None:
    """Without that it waits until there are no small ones any more."""
    assert waits(published()[BY_TENANT])["large"][2] < 60 + 60
    assert waits(published()[NO_ROOM_KEPT])["large"][1] > 1800


def test_a_tenant_of_twice_the_weight_has_twice_as_many_jobs_while_both_wait() -> None:
    """Of those that the same moment has seen start."""
    until = max(job.started for job in of("double"))
    starts = sum(job.started <= until for job in of("flood") + of("urgent, at once"))
    assert 0.45 < starts / len(of("double")) < 0.55


def test_a_capped_tenant_has_never_more_jobs_than_its_cap_and_has_that_many() -> None:
    """Though it has room, and a hundred jobs that wait."""
    running: list[float] = []
    most = 0
    for job in sorted(of("capped"), key=lambda each: each.started):
        while running and running[0] <= job.started:
            heapq.heappop(running)
        heapq.heappush(running, job.started + job.lasts)
        most = max(most, len(running))
    assert most == LIMITS["capped"].jobs


def test_priority_is_worth_so_much_waiting_and_no_more() -> None:
    """Important jobs pass those of their tenant that have not waited for that long, and none that have."""
    assert max(job.waited for job in of("urgent, at once")) < 60
    assert min(job.started for job in of("urgent, later")) >= max(job.started for job in of("flood"))
