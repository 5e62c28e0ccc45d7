"""When a provider that keeps failing is asked again: not at once, not never (W28). Pure; the caller tells the time."""

from __future__ import annotations

import dataclasses

#: Failures in a row before it is left alone.
THRESHOLD = 3
#: Seconds it is left alone for, the first time; doubles with each failure.
FIRST_SECONDS = 1.0
MOST_SECONDS = 60.0
#: Seconds that one who tries it has before another may.
TRIAL_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class Breaker:
    """Closed (all may), open (nobody may), half-open (one may try).

    :ivar failures: in a row.
    """

    failures: int = 0
    _open_until: float = 0.0
    _trial_until: float = 0.0

    def failed(self, now: float) -> None:
        """Note a failure that was the provider's own."""
        self.failures += 1
        self._trial_until = 0.0
        over = self.failures - THRESHOLD
        if over >= 0:
            self._open_until = now + min(FIRST_SECONDS * 2**over, MOST_SECONDS)

    def succeeded(self) -> None:
        """Note a success."""
        self.failures, self._open_until, self._trial_until = 0, 0.0, 0.0

    def begin(self, now: float) -> None:
        """Note that somebody tries it."""
        if self.half_open(now):
            self._trial_until = now + TRIAL_SECONDS

    def half_open(self, now: float) -> bool:
        """Whether one may try it."""
        return self.failures >= THRESHOLD and now >= max(self._open_until, self._trial_until)

    def refusal(self, now: float) -> str:
        """Return why nobody may use it now; empty when somebody may."""
        if self.failures < THRESHOLD or self.half_open(now):
            return ""
        failed = f"{self.failures} launches in a row have failed"
        if now < self._open_until:
            return f"{failed}; it is tried again in {self._open_until - now:.0f} s"
        return f"{failed}; it is being tried again"
