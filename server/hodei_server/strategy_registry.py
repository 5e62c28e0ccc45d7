"""Finds strategies of third parties by the entry point group ``hodei.strategies``.

An entry is a function ``score(spec, candidate, inputs) -> float``: a `hodei.v1.JobSpec`, a
`hodei_server.domain.candidates.Candidate`, a `hodei_server.domain.strategies.Inputs`. The highest score wins.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import Any

from hodei_server.domain.strategies import STRATEGIES, Score

GROUP = "hodei.strategies"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class StrategyError(ValueError):
    """A strategy that is installed can't be used."""


def load_strategies() -> dict[str, Score]:
    """Return all strategies by name.

    :raise StrategyError: one can't be loaded, is no function, or has a name that is taken or is none.
    """
    found: dict[str, Score] = dict(STRATEGIES)
    for entry in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        if entry.name in found:
            raise StrategyError(f"the strategy {entry.name!r} of {entry.value} has a name that is taken")
        if not _NAME.fullmatch(entry.name):
            raise StrategyError(f"the strategy {entry.name!r} of {entry.value} has no name of letters, digits and '-'")
        try:
            score: Any = entry.load()
        except (ImportError, AttributeError) as error:
            raise StrategyError(f"the strategy {entry.name!r} can't be loaded: {error}") from error
        if not callable(score):
            raise StrategyError(f"the strategy {entry.name!r}: {entry.value} is no function")
        found[entry.name] = score
    return found
