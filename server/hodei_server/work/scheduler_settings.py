"""How jobs are given out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hodei_server.domain.fairness import Limits
from hodei_server.domain.strategies import STRATEGIES, Score
from hodei_server.settings.prices import PlacingSettings


@dataclasses.dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """How jobs are given out.

    :param strategy: of jobs that name none.
    :param strategies: all there are, by name.
    :param placing: what is set of each provider.
    :param limits: weights and caps of tenants.
    :param ageing: seconds of waiting that a point of priority is worth.
    :param slip: seconds that smaller jobs may slip past one that does not fit.
    :param slip_hold: seconds for which room is then kept for it.
    :param start_timeout: seconds, of jobs that name none.
    :param cancel_grace: seconds, of jobs that name none.
    :param orphan_after: seconds without the server after which a worker ends its job by itself.
    :param owner: this server's id, written beside the logs.
    """

    strategy: str
    start_timeout: float
    cancel_grace: float
    orphan_after: float
    worker_max_jobs: int
    owner: str
    strategies: Mapping[str, Score] = dataclasses.field(default_factory=lambda: STRATEGIES)
    placing: Mapping[str, PlacingSettings] = dataclasses.field(default_factory=dict)
    limits: Mapping[str, Limits] = dataclasses.field(default_factory=dict)
    ageing: float = 60.0
    slip: float = 60.0
    slip_hold: float = 600.0
