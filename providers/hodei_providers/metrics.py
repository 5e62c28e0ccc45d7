"""What a provider may tell of itself beyond the contract's verbs, for whoever watches it."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping
from typing import Literal


class Distribution:
    """Counts how often a value lay at or below each of some bounds.

    :param bounds: growing; what lies beyond the last one is counted, too.
    """

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value


#: Figures by the values of their labels.
Samples = Mapping[tuple[str, ...], float | Distribution]


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One family of figures, as Prometheus has them.

    :param name: in base units and without the prefix `hodei_`; a counter's ends with ``_total``.
    :param kind: a counter only grows while the provider lives.
    :param labels: names of the labels; `provider` comes from the server. Their values are words of a small closed
        list: no ids, no names that jobs choose.
    :param samples: a figure by the labels' values; a histogram's are distributions.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ()
    samples: Samples = dataclasses.field(default_factory=dict)
