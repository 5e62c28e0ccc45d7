"""What the Docker provider makes of an engine's own words about itself; the engine is played."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hodei_providers.contract import Capabilities, Health, ProviderUnavailableError, Route
from hodei_providers.docker import provider as module
from hodei_providers.docker import watch as watch_module
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.engine import Engine, EngineFacts
from hodei_providers.docker.provider import DockerProvider
from hodei_providers.docker.spec import WORKER_LABEL
from hodei_providers.docker.watch import ContainerWatch
from hodei_providers.registry import ProviderSetupError

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"
FACTS = EngineFacts(processors=2, memory_bytes=8 << 30, gateway=HERE, storage="overlay2 on xfs")


class Engines:
    """What each engine says of itself from now on."""

    def __init__(self) -> None:
        self.facts = FACTS

    async def ask(self) -> EngineFacts:
        """Answer as an engine."""
        return self.facts


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Have engines answer what a test says."""
    engines = Engines()
    monkeypatch.setattr(Engine, "facts", engines.ask)
    return engines


async def offered(folder: Path, **settings: Any) -> tuple[Capabilities, Route | None]:
    """Return what a provider offers once it is entered, and how it leads its containers back."""
    async with DockerProvider("docker", data_dir=folder, config=DockerConfig(**settings)) as provider:
        return provider.capabilities(), provider.route()


async def test_a_limit_of_the_disk_is_refused_where_it_would_bound_nothing(engines: Engines, tmp_path: Path) -> None:
    """W38: a root that can't be written needs no bound, and the volumes beside it get none."""
    for storage in ("overlay2 on xfs", "btrfs", "zfs"):
        engines.facts = dataclasses.replace(FACTS, storage=storage)
        capabilities, _ = await offered(tmp_path)
        assert "HODEI_DOCKER_READ_ONLY_ROOT" in capabilities.refused_resources["disk_bytes"]
        capabilities, _ = await offered(tmp_path, read_only_root=False)
        assert "disk_bytes" not in capabilities.refused_resources
    engines.facts = dataclasses.replace(FACTS, storage="overlay2 on extfs")
    capabilities, _ = await offered(tmp_path, read_only_root=False)
    assert "overlay2 on extfs" in capabilities.refused_resources["disk_bytes"]


@pytest.mark.parametrize(
    ("gateway", "given", "way"),
    [
        (HERE, "", Route(HERE, listen=HERE)),
        (HERE, "host-gateway", Route("host.docker.internal", listen=HERE)),
        (ELSEWHERE, "host-gateway", Route("host.docker.internal", listen="")),
        (ELSEWHERE, "hodei.example", Route("hodei.example", 0, "")),
        (ELSEWHERE, "hodei.example:443", Route("hodei.example", 443, "")),
        (ELSEWHERE, f"{HERE}:50052", Route(HERE, 50052, HERE)),
    ],
)
async def test_containers_are_led_to_the_gateway_or_to_what_is_set(
    engines: Engines, tmp_path: Path, gateway: str, given: str, way: Route
) -> None:
    """The listener opens there only if it is an address of this machine."""
    engines.facts = dataclasses.replace(FACTS, gateway=gateway)
    _, found = await offered(tmp_path, server_address=given)
    assert found == way


@pytest.mark.parametrize(("gateway", "words"), [(ELSEWHERE, ELSEWHERE), ("", "no gateway")])
async def test_a_gateway_of_another_machine_leads_nowhere(
    engines: Engines, tmp_path: Path, gateway: str, words: str
) -> None:
    """The variable that helps is named, and why it is needed."""
    engines.facts = dataclasses.replace(FACTS, gateway=gateway)
    with pytest.raises(ProviderSetupError, match=f"HODEI_DOCKER_SERVER_ADDRESS.*{words}"):
        await offered(tmp_path)


async def test_the_machines_own_network_needs_no_way_of_its_own(engines: Engines, tmp_path: Path) -> None:
    """Its containers are on this machine's loopback."""
    engines.facts = dataclasses.replace(FACTS, gateway="")
    _, way = await offered(tmp_path, network="host")
    assert way is None


async def health(folder: Path) -> Health:
    """Return a provider's health."""
    async with DockerProvider("docker", data_dir=folder, config=DockerConfig()) as provider:
        return await provider.health()


async def test_an_engine_that_takes_a_promise_away_is_degraded(engines: Engines, tmp_path: Path) -> None:
    """By its own warning; what it warns of beside that promises nothing."""
    engines.facts = dataclasses.replace(FACTS, warnings=("WARNING: No memory limit support", "WARNING: insecure"))
    found = await health(tmp_path)
    assert (found.healthy, found.degraded, found.message) == (True, True, "WARNING: No memory limit support")
    engines.facts = dataclasses.replace(FACTS, warnings=("WARNING: insecure",))
    found = await health(tmp_path)
    assert (found.healthy, found.degraded, found.message) == (True, False, "")


async def test_an_engine_that_answers_late_is_degraded(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healthy, as it answers."""
    monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)
    found = await health(tmp_path)
    assert (found.healthy, found.degraded, found.message) == (True, True, "the engine answers slowly")
    assert engines.facts is FACTS


@pytest.mark.parametrize(
    "address", ["localhost:2375", "ssh://somebody@somewhere", "tcp://", "tcp://host:port", "unix://here", "tcp://h:0"]
)
async def test_an_engine_by_no_address_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    """Before anything is asked of it."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(ProviderSetupError, match=r"^DOCKER_HOST: .*can't be used"):
        await offered(tmp_path)


class MissedEvents:
    """An engine that tells of no event, and lists what it is said to have."""

    def __init__(self, *lists: list[tuple[str, str, str]]) -> None:
        self._lists = [*lists]

    async def workers(self, _: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return the next list; none after the last."""
        if not self._lists:
            raise ProviderUnavailableError("there is no more to see")
        return self._lists.pop(0)

    async def events(self, _: Mapping[str, object]) -> AsyncIterator[dict[str, Any]]:
        """Say nothing."""
        await asyncio.Event().wait()
        yield {}


async def test_what_no_event_told_is_found_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """W09: ended, gone, or made and started by nobody; each once."""
    monkeypatch.setattr(watch_module, "LIST_SECONDS", 0.001)
    before = [("ends", "c1", "running"), ("gone", "c2", "running"), ("made", "c3", "created"), ("on", "c4", "running")]
    after = [("ends", "c1", "exited"), ("made", "c3", "created"), ("on", "c4", "running")]
    watch = ContainerWatch(MissedEvents(before, after, after), ["a=b"])  # type: ignore[arg-type]  # all it asks
    found: list[str] = []
    with contextlib.suppress(ProviderUnavailableError):
        async for worker_id in watch._one_connection():
            found.append(worker_id)  # noqa: PERF401 - what came before the error counts
    assert found == ["ends", "gone", "made"]


class ManyEvents(MissedEvents):
    """An engine that tells of one worker again and again."""

    async def events(self, _: Mapping[str, object]) -> AsyncIterator[dict[str, Any]]:
        """Tell of it."""
        while True:
            await asyncio.sleep(0)
            yield {"Actor": {"Attributes": {WORKER_LABEL: "busy"}}}


async def test_what_no_event_told_is_found_however_many_there_are_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """W09: on an engine on which something ends all the time."""
    monkeypatch.setattr(watch_module, "LIST_SECONDS", 0.001)
    before = [("gone", "c1", "running"), ("busy", "c2", "running")]
    watch = ContainerWatch(ManyEvents(before, before[1:]), ["a=b"])  # type: ignore[arg-type]  # all it asks
    async with asyncio.timeout(60):
        async for worker_id in watch._one_connection():
            if worker_id != "busy":
                break
    assert worker_id == "gone"
