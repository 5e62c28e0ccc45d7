"""At which rate the API is called."""

from __future__ import annotations

import asyncio
import math
import time

from hodei_providers.contract import ProviderUnavailableError


class Pace:
    """Lets calls through at a rate, in the order in which they come; a burst of one second's is let through.

    :param rate: calls a second.
    :param most: seconds for which a call waits for its turn at most; by default as long as it takes.
    """

    def __init__(self, rate: float, most: float = math.inf) -> None:
        self._rate = rate
        self._most = most
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn.

        :raise ProviderUnavailableError: more calls wait for their turn than come to it soon.
        """
        now = time.monotonic()
        turn = max(self._next, now - 1.0) + 1.0 / self._rate
        if turn - now > self._most:
            raise ProviderUnavailableError(
                f"calls of the API wait for {self._most:g} s already: HODEI_K8S_API_RATE lets through {self._rate:g} a "
                "second"
            )
        self._next = turn
        if turn > now:
            await asyncio.sleep(turn - now)
