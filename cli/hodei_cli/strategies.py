"""Strategies as people write them."""

from __future__ import annotations

from hodei.v1 import types_pb2 as wire

#: Those that every server has; it may have more.
STRATEGIES = {
    "lowest-cost": wire.STRATEGY_LOWEST_COST,
    "fastest-startup": wire.STRATEGY_FASTEST_STARTUP,
    "most-capacity": wire.STRATEGY_MOST_CAPACITY,
    "healthiest": wire.STRATEGY_HEALTHIEST,
    "by-labels": wire.STRATEGY_LABELS,
}


def set_strategy(spec: wire.JobSpec, name: str) -> None:
    """Name a job's strategy; the server says which others it has."""
    written = "by-labels" if name == "labels" else name.replace("_", "-")
    spec.ClearField("strategy")
    spec.ClearField("custom_strategy")
    if written in STRATEGIES:
        spec.strategy = STRATEGIES[written]
    else:
        spec.custom_strategy = name
