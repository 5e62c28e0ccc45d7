"""Since when the server has been there without a break: what it did not hear while it was stopped is no silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hodei.clock import elapsed_ns

TICK_SECONDS = 0.5
#: Between two ticks so far apart, in seconds, the server was stopped: by a signal, a suspended machine or an operator.
STOPPED_SECONDS = 2.0


class Presence:
    """Knows for how long the server has been able to hear.

    :param clock: nanoseconds that go on whatever happens.
    """

    def __init__(self, clock: Callable[[], int] = elapsed_ns) -> None:
        self._clock = clock
        self._ticked = self._since = clock()

    def tick(self) -> None:
        """Note that the server is there."""
        now = self._clock()
        if now - self._ticked > STOPPED_SECONDS * 1e9:
            self._since = now
        self._ticked = now

    def seconds(self) -> float:
        """Return for how long the server has been there since its start, or since it went on after a stop."""
        self.tick()
        return (self._ticked - self._since) / 1e9

    def since(self) -> float:
        """Return when that began, in monotonic seconds."""
        return time.monotonic() - self.seconds()


async def presence_loop(presence: Presence) -> None:
    """Tick."""
    while True:
        presence.tick()
        await asyncio.sleep(TICK_SECONDS)
