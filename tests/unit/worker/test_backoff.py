"""Workers that lost their server come back spread out, and not before it wants them."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_worker.backoff import MAX_RETRY_AFTER_SECONDS, MAX_SECONDS, bound, wait_seconds


@given(failures=st.integers(0, 10_000))
def test_the_bound_doubles_to_its_limit(failures: int) -> None:
    """W22: never more than the limit, never less than the one before."""
    assert 0 < bound(failures) <= MAX_SECONDS
    assert bound(failures + 1) == min(2 * bound(failures), MAX_SECONDS)


@given(failures=st.integers(0, 100), asked=st.floats(-1e9, 1e9), share=st.floats(0.0, 1.0))
def test_a_wait_lies_between_what_was_asked_for_and_the_bound_on_top(failures: int, asked: float, share: float) -> None:
    """W22: a server that asks for patience gets it, up to a limit, and jitter on top."""
    wait = wait_seconds(failures, asked, uniform=lambda low, high: low + (high - low) * share)
    least = min(max(asked, 0.0), MAX_RETRY_AFTER_SECONDS)
    assert wait == pytest.approx(least + share * bound(failures))


@pytest.mark.parametrize("failures", [0, 3, 20])
def test_waits_fill_the_whole_range_evenly(failures: int) -> None:
    """W22: full jitter, from nothing at all to the bound; a thousand workers don't come as one."""
    count = 4000
    shares = [wait_seconds(failures) / bound(failures) for _ in range(count)]
    tenths = [sum(place / 10 <= share < (place + 1) / 10 for share in shares) for place in range(10)]
    # Ten deviations: no run of an even distribution comes near it.
    assert all(abs(held - count / 10) < 10 * (count * 0.09) ** 0.5 for held in tenths)
    assert abs(statistics.fmean(shares) - 0.5) < 0.1


@given(failures=st.integers(0, 100), most=st.floats(0.1, 100.0))
def test_who_has_less_time_waits_less(failures: int, most: float) -> None:
    """W22, W35: a worker looks for its server several times before it gives its job up."""
    assert wait_seconds(failures, most=most, uniform=lambda _, high: high) == min(bound(failures), most)
