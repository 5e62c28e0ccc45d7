"""How long a stream that keeps breaking is resumed, and how it is spaced."""

from __future__ import annotations

import asyncio
import random
from time import monotonic

import grpc

from hodei_client.errors import HodeiError

MAX_BACKOFF_SECONDS = 10.0
#: A stream that lived this long was served, however little there was to say.
SETTLED_SECONDS = 10.0
#: How often a stream that the server itself fails is tried without anything new.
TRIES = 4
#: What a server that fails answers; it may well fail again.
_FAILED = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
#: What a stream that breaks may end with; CANCELLED comes from a server that ends.
_RESUMABLE = _FAILED | {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Endurance:
    """Counts one stream's breaks.

    :param patience: seconds without service after which the stream is given up.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._failures = 0
        self._lost_at = 0.0
        self._opened_at = 0.0

    def opening(self) -> None:
        """Note that the stream is about to be opened."""
        self._opened_at = monotonic()

    def served(self) -> None:
        """Note that the server sent something new: earlier breaks don't count any more."""
        self._failures = 0

    async def endure(self, failure: HodeiError, *, reached: bool) -> None:
        """Wait before the stream is opened again, with full jitter.

        :param reached: whether this server was ever there; one that never was is told at once.
        :raise HodeiError: `failure`, where another try makes no sense.
        """
        now = monotonic()
        if now - self._opened_at >= SETTLED_SECONDS:
            self._failures = 0
        if not self._failures:
            self._lost_at = now
        self._failures += 1
        hopeless = not reached or (failure.code is not None and failure.code not in _RESUMABLE)
        failing = failure.code in _FAILED and self._failures >= TRIES
        if hopeless or failing or now - self._lost_at > self._patience:
            raise failure
        ceiling = min(MAX_BACKOFF_SECONDS, 0.1 * 2.0 ** min(self._failures, 10))
        await asyncio.sleep(random.uniform(0.0, ceiling))  # noqa: S311 - jitter, not a secret
