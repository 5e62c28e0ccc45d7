"""Calls under way: how many, and how much their requests take; more than may be are refused before anything is done."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from google.protobuf.message import Message
from grpc import aio

from hodei_server.domain.errors import TooManyCallsError
from hodei_server.instruments import CALLS_REFUSED


def refuse(why: str) -> NoReturn:
    """Count and refuse a call.

    :raise TooManyCallsError: always.
    """
    CALLS_REFUSED.inc()
    raise TooManyCallsError(why)


class Calls:
    """Counts calls of one listener, until their answers have left.

    Streams count by the bytes of their requests only: each kind of them has bounds of its own, and those that stay open
    for days are not to keep out what is over in a moment.

    :param most: unary calls at once.
    :param most_bytes: of all requests, as they were sent.
    :ivar under_way: unary calls.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.under_way = 0
        self._most = most
        self._bytes = 0
        self._most_bytes = most_bytes

    def begin(self, request: Message, context: aio.ServicerContext[Any, Any], *, unary: bool) -> None:
        """Count a call until gRPC is done with it.

        :raise TooManyCallsError: there are as many already as may be.
        """
        size = request.ByteSize()
        if unary and self.under_way >= self._most:
            refuse(f"{self._most} calls are under way already (HODEI_MAX_CALLS)")
        if self._bytes + size > self._most_bytes:
            limit = f"{self._most_bytes} bytes (HODEI_MAX_CALL_BYTES)"
            refuse(f"the requests of the calls under way would have more than {limit}")
        self.under_way += unary
        self._bytes += size
        context.add_done_callback(partial(self._end, size, unary))  # type: ignore[arg-type]  # the stubs know no function

    def _end(self, size: int, unary: bool, _: aio.ServicerContext[Any, Any]) -> None:  # noqa: FBT001 - bound, not called
        self.under_way -= unary
        self._bytes -= size
