"""How long a worker waits before it asks again: not all of them come back at once (W22)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from grpc import aio

from hodei.refusals import retry_after

_log = logging.getLogger("hodei.worker")

FIRST_SECONDS = 0.2
MAX_SECONDS = 15.0
#: A server that asks for more patience than this is not believed.
MAX_RETRY_AFTER_SECONDS = 300.0


def bound(failures: int) -> float:
    """Return the most seconds to wait after so many failures in a row: it doubles up to MAX_SECONDS."""
    return min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(failures, 10))


def wait_seconds(
    failures: int,
    retry_after: float = 0.0,
    *,
    most: float = MAX_SECONDS,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return how long to wait: anything up to the bound (full jitter), on top of what the server has asked for.

    :param retry_after: seconds, as `retry_after` read them.
    :param most: seconds that the bound does not go beyond, where the asker has less time than others.
    """
    return min(max(retry_after, 0.0), MAX_RETRY_AFTER_SECONDS) + uniform(0.0, min(bound(failures), most))


class Backoff:
    """Waits between attempts to find a server, the longer the more of them have failed.

    :param most: seconds that the wait's bound does not go beyond, asked for each time.
    """

    def __init__(self, most: Callable[[], float]) -> None:
        self._most = most
        self._failures = 0
        self._hurried = asyncio.Event()

    def succeeded(self) -> None:
        """Begin anew: a server was found."""
        self._failures = 0

    async def wait(self, error: aio.AioRpcError | None = None) -> None:
        """Wait as `wait_seconds` says.

        :param error: what the server has answered; it may ask for patience.
        """
        asked = retry_after(error) if error is not None else 0.0
        seconds = wait_seconds(self._failures, asked, most=self._most())
        self._failures += 1
        _log.info("trying again in %.3f s", seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), seconds)

    def hurry(self) -> None:
        """End the wait, and wait no more: whoever has nothing left to do tries once more and goes."""
        self._hurried.set()
