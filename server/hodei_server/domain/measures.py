"""What is measured of providers: how long starts take, and how well they have been of late. Pure."""

from __future__ import annotations

import collections
import dataclasses

#: How much of the newest start goes into an estimate, once there are several.
WEIGHT = 0.2
#: Images remembered for each provider; the least lately used go.
MOST_IMAGES = 200
#: Seconds that health looks back, and observations it keeps.
WINDOW_SECONDS = 600.0
MOST_OBSERVATIONS = 1000
#: An answer that takes so many seconds takes as much from health as if every other call had failed.
SLOW_SECONDS = 20.0
MOST_SLOWNESS = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """How long a start is expected to take.

    :param seconds: from the decision to a worker that has said hello.
    :param samples: how many starts it was made of; 0 where it is what the provider declares.
    """

    seconds: float
    samples: int = 0


class StartTimes:
    """Moving estimates of one provider, by image; the empty image is the provider's own.

    :param declared: seconds, for images of which no start was measured.
    """

    def __init__(self, declared: float) -> None:
        self._declared = Estimate(declared)
        self._estimates: dict[str, Estimate] = {}

    def add(self, image: str, seconds: float) -> None:
        """Take a measurement: the mean of the first few, then a moving one."""
        before = self._estimates.pop(image, Estimate(0.0))
        samples = before.samples + 1
        weight = max(1 / samples, WEIGHT)
        self._estimates[image] = Estimate(before.seconds + weight * (seconds - before.seconds), samples)
        while len(self._estimates) > MOST_IMAGES:
            del self._estimates[next(iter(self._estimates))]

    def of(self, image: str) -> Estimate:
        """Return what the next start with an image is expected to take."""
        return self._estimates.get(image, self._declared)


class HealthWindow:
    """Pings and launches of one provider over the last ten minutes."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, bool, float]] = collections.deque(maxlen=MOST_OBSERVATIONS)

    def add(self, now: float, *, well: bool, latency: float = 0.0) -> None:
        """Take a ping or a launch.

        :param now: monotonic seconds.
        :param latency: seconds that a ping took to be answered.
        """
        self._seen.append((now, well, latency))

    def score(self, now: float) -> float:
        """Return how well it has been, from 0 to 1; 1 where nothing was seen."""
        # Of a copy: others add to it from their own threads.
        seen = [each for each in list(self._seen) if each[0] >= now - WINDOW_SECONDS]
        if not seen:
            return 1.0
        share = sum(well for _, well, _ in seen) / len(seen)
        answers = [latency for _, well, latency in seen if well and latency]
        slowness = min(sum(answers) / len(answers) / SLOW_SECONDS, MOST_SLOWNESS) if answers else 0.0
        return round(max(share - slowness, 0.0), 3)


class Measures:
    """What is measured of one provider.

    :param declared: seconds that a start takes by its own word.
    """

    def __init__(self, declared: float) -> None:
        self.starts = StartTimes(declared)
        self.health = HealthWindow()
