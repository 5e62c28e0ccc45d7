"""Workers that lost their server come back spread out, and not before it wants them."""

from __future__ import annotations

import statistics

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # it has no stubs
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from hodei_server.domain.errors import UnavailableError
from hodei_server.rpc.errors import encode_status, status_of
from hodei_worker.backoff import MAX_RETRY_AFTER_SECONDS, MAX_SECONDS, bound, retry_after, wait_seconds


def refusal(details: bytes | None) -> aio.AioRpcError:
    """Return a call's error with these details."""
    trailing = aio.Metadata(("grpc-status-details-bin", details)) if details is not None else aio.Metadata()
    return aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), trailing, "not now")


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


@given(seconds=st.floats(0.001, 1e6))
def test_the_servers_own_refusals_are_understood(seconds: float) -> None:
    """W22: what one side writes as RetryInfo the other reads, without the package that has its class."""
    status = status_of(UnavailableError("not now", retry_after=seconds), "")
    assert status is not None
    assert retry_after(refusal(status[2])) == pytest.approx(seconds, abs=1e-6)


@given(details=st.none() | st.binary(max_size=200))
def test_details_that_can_not_be_read_ask_for_nothing(details: bytes | None) -> None:
    """Whatever they are, the worker goes on."""
    assert retry_after(refusal(details)) >= 0.0


def test_a_delay_that_is_no_time_asks_for_nothing() -> None:
    """Negative, or more than a time can hold."""
    for delay in (Duration(seconds=-5), Duration(seconds=(1 << 63) - 1)):
        details = encode_status(grpc.StatusCode.UNAVAILABLE, "", [error_details_pb2.RetryInfo(retry_delay=delay)])
        assert retry_after(refusal(details)) == 0.0


@given(failures=st.integers(0, 100), most=st.floats(0.1, 100.0))
def test_who_has_less_time_waits_less(failures: int, most: float) -> None:
    """W22, W35: a worker looks for its server several times before it gives its job up."""
    assert wait_seconds(failures, most=most, uniform=lambda _, high: high) == min(bound(failures), most)
