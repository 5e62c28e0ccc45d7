"""What is made of a provider for a job, and of all of them: the best first. Pure.

Most of what is decided of one job is decided of the next one, too, so what verdicts come to is made once.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Self

from hodei.v1 import job_pb2 as wire


class Standing(enum.Enum):
    """What stands between a job and a provider; the reason says it in words."""

    OPEN = "open"
    NEVER = "never"
    CLOSED = "closed"
    UNHEALTHY = "unhealthy"
    FULL = "full"
    NO_SCORE = "no score"


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What strategies read; see `hodei.v1.PlacementInputs`.

    :param ready: a worker that fits waits there.
    """

    cost_per_hour: float
    start_seconds: float
    start_samples: int
    fits: int
    health: float
    labels: float
    ready: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the scheduler makes of a provider for a job.

    :param eligible: it could take the job, now or later.
    :param room: it could take it now.
    """

    provider: str
    standing: Standing
    score: float
    reason: str
    inputs: Inputs

    @property
    def eligible(self) -> bool:
        """Whether it could take the job, now or later."""
        return self.standing is not Standing.NEVER

    @property
    def room(self) -> bool:
        """Whether it could take the job now."""
        return self.standing is Standing.OPEN

    @functools.cached_property
    def key(self) -> tuple[bool, bool, float, str]:
        """What sorts verdicts, the best first: the stable rule behind equal scores is the name."""
        return not self.eligible, not self.room, -self.score, self.provider

    @functools.cached_property
    def encoded(self) -> bytes:
        """It as the candidate of a `hodei.v1.Decision`, encoded."""
        return self._encode(avoided=False)

    def _encode(self, *, avoided: bool) -> bytes:
        inputs = self.inputs
        message = wire.ProviderVerdict(
            provider=self.provider,
            eligible=self.eligible,
            score=self.score,
            reason=self.reason,
            room=self.room,
            avoided=avoided,
            inputs=wire.PlacementInputs(
                cost_per_hour=inputs.cost_per_hour,
                start_seconds=inputs.start_seconds,
                start_samples=inputs.start_samples,
                fits=inputs.fits,
                health=inputs.health,
                labels=inputs.labels,
                ready=inputs.ready,
            ),
        )
        return wire.Decision(candidates=[message]).SerializeToString()

    def as_avoided(self) -> bytes:
        """Return it as `encoded`, of a provider that has failed the job before."""
        return self._encode(avoided=True)


class Ranking(tuple[Verdict, ...]):  # noqa: SLOT001 - it keeps what it was once asked for
    """Verdicts of all providers, the best first."""

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Self:
        """Rank verdicts."""
        return cls(sorted(verdicts, key=operator.attrgetter("key")))

    def avoiding(self, avoid: frozenset[str]) -> Sequence[Verdict]:
        """Return them where some providers have failed the job before: taken only where no other has room."""
        if not avoid:
            return self
        return sorted(self, key=lambda each: (*each.key[:2], each.provider in avoid, *each.key[2:]))

    @functools.cached_property
    def standings(self) -> tuple[tuple[str, str], ...]:
        """What stands between a job and each provider."""
        return tuple(sorted((each.provider, each.standing.value) for each in self))

    @functools.cached_property
    def encoded(self) -> bytes:
        """All candidates of a `hodei.v1.Decision`, encoded; what else it says may stand before or behind them."""
        return b"".join([each.encoded for each in self])
