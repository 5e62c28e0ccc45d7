"""What is made of failures of providers."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

from hodei_providers.contract import Health
from hodei_providers.memory import MemoryProvider
from hodei_server.domain.blame import Blame
from hodei_server.work.fleet import Fleet, FleetSettings
from hodei_server.work.sessions import Sessions


async def test_after_a_failure_only_its_own_provider_is_asked_how_it_is() -> None:
    """Launches that fail by the hundred would ask all of them, each time."""
    providers: dict[str, Any] = {name: MemoryProvider(name) for name in ("bad", "good")}
    healthy = {name: Health(healthy=name == "good", message="no") for name in providers}
    for name, provider in providers.items():
        provider.health = AsyncMock(return_value=healthy[name])
    fleet = Fleet(providers, Mock(), Sessions(), FleetSettings("one", {}, 60.0, 10.0))
    for _ in range(3):
        fleet.failed("bad", Blame.PROVIDER)
    await fleet.close()
    assert (providers["bad"].health.await_count, providers["good"].health.await_count) == (3, 0)
    assert not fleet.health["bad"].healthy
