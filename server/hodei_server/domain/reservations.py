"""How a large job gets its room though small ones could always take what is free. Pure; the caller tells the time.

Small jobs may slip past a job that does not fit, for `slip` seconds of its waiting. Then one provider, the one where
least is missing, counts the large job as if it ran there: others get only what is left beside it, so what ends makes
room. What is left beside it stays in use, other providers are not touched, and a provider where it fits takes it at
once: none stands idle for it. Where the room does not come within `hold` seconds (something else runs on and on),
others have their turn for as long.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hodei.v1 import types_pb2 as wire

#: Seconds after which a reservation goes whose job was not looked at again: it was cancelled, or runs elsewhere.
FORGET_SECONDS = 60.0


@dataclasses.dataclass(slots=True)
class Reservation:
    """Room that is kept for a job."""

    job_id: str
    asked: wire.Resources
    since: float
    seen: float


class Reservations:
    """At most one for each provider, and for each job.

    :param slip: seconds that a job waits while others slip past it.
    :param hold: seconds that a reservation lasts at most, and rests afterwards.
    """

    def __init__(self, slip: float, hold: float) -> None:
        self.slip = slip
        self._hold = hold
        self._of: dict[str, Reservation] = {}
        self._rests: dict[str, float] = {}

    def copy(self) -> Reservations:
        """Return one that may be changed while this one stands."""
        other = Reservations(self.slip, self._hold)
        other._of = {name: dataclasses.replace(each) for name, each in self._of.items()}
        other._rests = dict(self._rests)
        return other

    def begin(self, now: float) -> None:
        """Let go of what has lasted too long, or is not asked for any more."""
        self._rests = {job_id: until for job_id, until in self._rests.items() if until > now}
        for provider, each in list(self._of.items()):
            if now - each.since > self._hold:
                self._rests[each.job_id] = now + self._hold
                del self._of[provider]
            elif now - each.seen > FORGET_SECONDS:
                del self._of[provider]

    def held(self) -> Iterator[tuple[str, Reservation]]:
        """Yield providers and what is reserved there."""
        yield from list(self._of.items())

    def provider_of(self, job_id: str) -> str | None:
        """Return where room is kept for a job."""
        return next((name for name, each in self._of.items() if each.job_id == job_id), None)

    def see(self, job_id: str, now: float) -> None:
        """Note that a job still waits."""
        for each in self._of.values():
            if each.job_id == job_id:
                each.seen = now

    def may(self, job_id: str, provider: str) -> bool:
        """Whether room may be kept for a job at a provider."""
        return provider not in self._of and job_id not in self._rests

    def keep(self, provider: str, job_id: str, asked: wire.Resources, now: float) -> None:
        """Keep room for a job."""
        self._of[provider] = Reservation(job_id, asked, now, now)

    def release(self, job_id: str) -> None:
        """Forget a job, which has a place."""
        provider = self.provider_of(job_id)
        if provider is not None:
            del self._of[provider]
