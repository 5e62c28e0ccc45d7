"""The details of what the server refuses are read without the package that has their classes."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # it has no stubs
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from hodei.refusals import reason, retry_after
from hodei_server.domain.errors import UnavailableError
from hodei_server.rpc.errors import encode_status, status_of


def refusal(details: bytes | None) -> aio.AioRpcError:
    """Return a call's error with these details."""
    trailing = aio.Metadata(("grpc-status-details-bin", details)) if details is not None else aio.Metadata()
    return aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), trailing, "not now")


@given(seconds=st.floats(0.001, 1e6))
def test_the_servers_own_refusals_are_understood(seconds: float) -> None:
    """W22: what one side writes as RetryInfo the other reads, without the package that has its class."""
    status = status_of(UnavailableError("not now", retry_after=seconds), "")
    assert status is not None
    error = refusal(status[2])
    assert retry_after(error) == pytest.approx(seconds, abs=1e-6)
    assert reason(error) == UnavailableError.reason


@given(details=st.none() | st.binary(max_size=200))
def test_details_that_can_not_be_read_ask_for_nothing(details: bytes | None) -> None:
    """Whatever they are, who reads them goes on."""
    assert retry_after(refusal(details)) >= 0.0
    reason(refusal(details))


def test_a_delay_that_is_no_time_asks_for_nothing() -> None:
    """Negative, or more than a time can hold."""
    for delay in (Duration(seconds=-5), Duration(seconds=(1 << 63) - 1)):
        details = encode_status(grpc.StatusCode.UNAVAILABLE, "", [error_details_pb2.RetryInfo(retry_delay=delay)])
        assert retry_after(refusal(details)) == 0.0
