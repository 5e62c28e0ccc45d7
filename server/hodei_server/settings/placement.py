"""Settings of placement: which provider a job goes to, which job is next, and what tenants may have."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from hodei.quantities import parse_cpu, parse_size
from hodei_server.domain.fairness import ANYBODY, Limits
from hodei_server.settings.values import Duration, SettingsGroup, by_tenant


def _weight(text: str) -> float:
    weight = float(text)
    if not math.isfinite(weight) or weight <= 0:
        raise ValueError("a weight is more than nothing")
    return weight


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError("it is at least 1")
    return count


#: What each list of tenants is in their limits, and how a value is read.
_LIMITS = {
    "tenant_weights": ("weight", _weight),
    "tenant_max_jobs": ("jobs", _count),
    "tenant_max_cpu": ("cpu_millis", parse_cpu),
    "tenant_max_memory": ("memory_bytes", parse_size),
}


class PlacementGroup(SettingsGroup):
    """How jobs are placed."""

    title: ClassVar[str] = "Placement and tenants"

    strategy: str = Field(
        "fastest-startup",
        description="How a provider is chosen where the job does not say: `lowest-cost`, `fastest-startup`, "
        "`most-capacity`, `healthiest`, `by-labels`, or the name of one that is installed.",
    )
    priority_ageing: Duration = Field(
        60.0, description="A point of a job's priority is worth so much waiting among its tenant's jobs."
    )
    slip: Duration = Field(
        60.0, description="Smaller jobs may slip past one that does not fit for so long; then room is kept for it."
    )
    slip_hold: Duration = Field(
        600.0, description="Room is kept for so long; then others have their turn for as long again."
    )
    tenant_weights: str = Field(
        "", description="Tenants' shares, `TENANT=WEIGHT,…`; `*` is every other tenant; 1 where none is given."
    )
    tenant_max_jobs: str = Field("", description="Jobs that a tenant has running at most, `TENANT=COUNT,…`.")
    tenant_max_cpu: str = Field("", description="Processors that its running jobs ask for at most, `TENANT=CPU,…`.")
    tenant_max_memory: str = Field("", description="Memory that its running jobs ask for at most, `TENANT=SIZE,…`.")
    max_queued_jobs: int = Field(1_000_000, ge=1, description="Further submissions are refused.")
    max_watches: int = Field(10_000, ge=1, description="Watches of jobs at once: each that is waited for has one.")
    max_watches_per_client: int = Field(5000, ge=1, description="Watches of one client's address at once.")

    @field_validator("strategy")
    @classmethod
    def _name_strategy(cls, value: str) -> str:
        """Take the names that were written with `_`, too."""
        name = value.replace("_", "-")
        return "by-labels" if name == "labels" else name

    @field_validator(*_LIMITS)
    @classmethod
    def _check_limits(cls, value: str, info: ValidationInfo) -> str:
        _, read = _LIMITS[str(info.field_name)]
        by_tenant(value, read, anybody=True)
        return value

    @property
    def limits(self) -> dict[str, Limits]:
        """Weights and caps of tenants; ANYBODY's are those of a tenant that is not named."""
        given: dict[str, dict[str, Any]] = {}
        for setting, (field, read) in _LIMITS.items():
            for tenant, value in by_tenant(getattr(self, setting), read, anybody=True).items():
                given.setdefault(tenant, {})[field] = value
        anybody = given.get(ANYBODY, {})
        return {tenant: Limits(**(anybody | own)) for tenant, own in given.items()}
