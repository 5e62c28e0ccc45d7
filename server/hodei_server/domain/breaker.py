"""When a provider that keeps failing is asked again: not at once, not never (W28). Pure; the caller tells the time.

Only what is the provider's own fault is a failure here: a launch that it could not make for a reason that may pass,
or a worker of its own image that never said hello. What a job does, or its image, never opens it. Where the provider
itself has said for how long it wants to be left alone, it is, whatever the reason.
"""

from __future__ import annotations

import dataclasses
import math

#: Failures in a row before it is left alone.
THRESHOLD = 3
#: Seconds it is left alone for, the first time; doubles with each probe that fails.
FIRST_SECONDS = 1.0
MOST_SECONDS = 60.0
#: Seconds that one which asks to be left alone is believed for, at most.
MOST_ALONE_SECONDS = 300.0


@dataclasses.dataclass(slots=True)
class Breaker:
    """Closed (all may), open (nobody may), half-open (one may try).

    :ivar failures: in a row.
    :ivar openings: how often it has opened since a success.
    """

    failures: int = 0
    openings: int = 0
    _open_until: float = 0.0
    _probe_until: float = 0.0
    _alone_until: float = 0.0

    def asked(self, now: float, seconds: float) -> None:
        """Note that the provider has asked to be left alone.

        :param seconds: for how long; 0 where it has not.
        """
        self._alone_until = max(self._alone_until, now + min(seconds, MOST_ALONE_SECONDS))

    def failed(self, now: float) -> None:
        """Note a failure that was the provider's own."""
        self.failures += 1
        # Of launches made at once each fails, and while it is open all that comes is of those: they are one failure.
        if self.failures >= THRESHOLD and now >= self._open_until:
            self._open_until = now + min(FIRST_SECONDS * 2.0 ** min(self.openings, 10), MOST_SECONDS)
            self.openings += 1
            self._probe_until = 0.0

    def succeeded(self) -> None:
        """Note that a worker has said hello."""
        self.failures, self.openings, self._open_until, self._probe_until = 0, 0, 0.0, 0.0

    def undecided(self) -> None:
        """Note that a launch has shown nothing of the provider: where it was the one probe, another may be made."""
        self._probe_until = 0.0

    def begin(self, now: float, seconds: float) -> None:
        """Note a launch; where the breaker is half-open it is the one probe.

        :param seconds: that it has before another may be made.
        """
        if self.half_open(now):
            self._probe_until = now + seconds

    def half_open(self, now: float) -> bool:
        """Whether one may try it."""
        return self.failures >= THRESHOLD and now >= max(self._open_until, self._probe_until, self._alone_until)

    def refusal(self, now: float) -> str:
        """Return why nobody may use it now; empty when somebody may."""
        if now < self._alone_until:
            return f"it has asked to be left alone for another {math.ceil(self._alone_until - now)} s"
        if self.failures < THRESHOLD or self.half_open(now):
            return ""
        failed = f"its breaker is open: {self.failures} launches in a row have failed"
        if now < self._open_until:
            return f"{failed}; it is tried again in {self._open_until - now:.0f} s"
        return f"{failed}; it is being tried again"
