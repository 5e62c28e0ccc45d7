"""How long launches take, measured: a moving estimate for each image."""

from __future__ import annotations

#: How much of the newest measurement goes into an estimate.
WEIGHT = 0.2
MOST_IMAGES = 200


class StartupTimes:
    """Estimates in seconds.

    :param first: where nothing was measured.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._estimates: dict[str, float] = {}

    def add(self, image: str, seconds: float) -> None:
        """Take a measurement."""
        before = self._estimates.pop(image, seconds)
        self._estimates[image] = before + WEIGHT * (seconds - before)
        while len(self._estimates) > MOST_IMAGES:
            del self._estimates[next(iter(self._estimates))]

    def estimate(self, image: str) -> float:
        """Return what the next launch with an image is expected to take."""
        return self._estimates.get(image, self._first)
