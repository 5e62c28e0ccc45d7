"""What providers and tenants have, made of what is known of them, for placement."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_providers.contract import Resources
from hodei_server.db.providers import ProviderState
from hodei_server.domain.candidates import SHARED, Candidate
from hodei_server.domain.fairness import Usage
from hodei_server.domain.prices import Prices
from hodei_server.settings.prices import PlacingSettings
from hodei_server.work.fleet import Fleet


def candidate_of(
    fleet: Fleet, name: str, groups: Sequence[RowMapping], state: ProviderState, placing: PlacingSettings
) -> Candidate:
    """Return a provider as strategies see it.

    :param groups: its workers, by what they ask for.
    :param state: as an operator has set it.
    """
    offers, health = fleet.providers[name].capabilities(), fleet.health[name]
    measures, breaker, now = fleet.measures[name], fleet.breakers[name], time.monotonic()
    refusal = breaker.refusal(now)
    held = sum(row["count"] for row in groups)
    most = offers.max_resources
    return Candidate(
        name=name,
        enabled=state is ProviderState.ENABLED,
        closed=f"it is {state.name.lower()}",
        healthy=health.healthy and not refusal,
        health_message=refusal or health.message,
        health=measures.health.score(now),
        held=held,
        # One that is half-open gets one more.
        max_workers=min(offers.max_workers, held + 1) if breaker.half_open(now) else offers.max_workers,
        free=_free(health.total, groups),
        elastic=health.elastic,
        images=offers.images,
        resource_limits=offers.resource_limits,
        refused_resources=offers.refused_resources,
        max_resources=wire.Resources(
            cpu_millis=most.cpu_millis,
            memory_bytes=most.memory_bytes,
            disk_bytes=most.disk_bytes,
            gpu_count=most.gpu_count,
        ),
        gpu_types=offers.gpu_types,
        architectures=offers.architectures,
        prices=prices_of(fleet, name, placing),
        start=measures.starts.of,
        regions=offers.regions,
        labels=offers.labels,
        refused_names=fleet.providers[name].refused_names,
        annotations=placing.annotations,
    )


def prices_of(fleet: Fleet, name: str, placing: PlacingSettings) -> Prices:
    """Return a provider's prices."""
    return placing.prices(fleet.providers[name].capabilities().cost_per_hour)


def _free(total: Resources | None, groups: Sequence[RowMapping]) -> dict[str, int]:
    """Return what an engine has left of what it says it has, beside workers that are there or on their way (W15)."""
    if total is None:
        return {}
    free = {name: getattr(total, name) for name in SHARED if getattr(total, name)}
    for row in groups:
        asked = wire.Resources.FromString(row["resources"])
        for name in free:
            free[name] -= getattr(asked, name) * row["count"]
    return free


def usage_of(groups: Sequence[RowMapping]) -> dict[str, Usage]:
    """Return what tenants have: the workers with an attempt of theirs."""
    usage: dict[str, Usage] = {}
    for row in groups:
        if row["busy"]:
            usage.setdefault(row["tenant"], Usage()).add(wire.Resources.FromString(row["resources"]), row["count"])
    return usage
