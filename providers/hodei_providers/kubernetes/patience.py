"""For how long the API is left alone where it is busy, or fails."""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Callable, Mapping

from hodei_providers.contract import ProviderError

BACKOFF_SECONDS = 0.25
#: A server that asks for more patience than this gets it from the caller, who asks again later.
MAX_RETRY_AFTER = 10.0
#: It is believed for so long at most: nothing else would end a mistake.
MOST_SECONDS = 300.0


def pause_seconds(attempt: int, asked: float = 0.0, chance: Callable[[], float] = random.random) -> float:
    """Return how long to wait before a call is tried again: twice as long at most each time, and anything below.

    So those that were refused together don't come back together.

    :param attempt: how many there were.
    :param asked: what the server asked for; it is waited for in any case, and those who wait so come apart, too.
    :param chance: from 0 to 1.
    """
    return asked + BACKOFF_SECONDS * (1 << attempt) * chance()


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that an answer asks for, also where it names a time of day; 0 where it asks for none."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), MOST_SECONDS) if math.isfinite(seconds) else 0.0


class Patience:
    """Remembers what the API asked for that is more than a call waits for: whoever comes meanwhile is told at once.

    By verb and by group of the API: one that makes nothing for a while may still be looked at, and what another server
    answers for, such as `metrics.k8s.io`, says nothing of pods.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], tuple[float, ProviderError]] = {}

    def note(self, verb: str, path: str, error: ProviderError) -> None:
        """Take note of a refusal, and of what it asked for."""
        self._until[verb, _group(path)] = time.monotonic() + error.retry_after, error

    def check(self, verb: str, path: str) -> None:
        """Refuse a call as long as the API is to be left alone.

        :raise ProviderError: as the refusal was, with what is left of the time in `retry_after`.
        """
        until, error = self._until.get((verb, _group(path)), (0.0, ProviderError("")))
        left = until - time.monotonic()
        if left > 0:
            again = type(error)(f"{error}; it has asked to be left alone for another {math.ceil(left)} s")
            again.retry_after = left
            raise again
        self._until.pop((verb, _group(path)), None)


def _group(path: str) -> str:
    """Return the group of a path: ``/api/v1``, ``/apis/metrics.k8s.io``."""
    return "/".join(path.split("/")[:3])
