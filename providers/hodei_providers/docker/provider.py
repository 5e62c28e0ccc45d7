"""The Docker provider; see docs/providers.md."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hodei.address import parse_address
from hodei_providers.architecture import architecture_names
from hodei_providers.contract import (
    Capabilities,
    Description,
    Handle,
    Health,
    LaunchRequest,
    Provider,
    ProviderError,
    ProviderUnavailableError,
    Resources,
    Route,
    WorkerPhase,
)
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.description import describe_container, event_line, handle_of, state_line
from hodei_providers.docker.engine import Engine, EngineFacts
from hodei_providers.docker.images import Images
from hodei_providers.docker.launches import Launches
from hodei_providers.docker.spec import HOST_GATEWAY_NAME, WORKER_LABEL, check_resources, container_name, own_labels
from hodei_providers.docker.watch import ContainerWatch
from hodei_providers.metrics import Metric, Samples
from hodei_providers.registry import ProviderSetupError

#: Where what was last known of the engine is kept, so that a server comes up while its engine is down.
FACTS_FILE = "engine.json"
TYPICAL_STARTUP = 1.0
#: An engine that takes longer to answer is degraded.
SLOW_SECONDS = 5.0
#: What the engine warns of that takes a promise away.
SERIOUS_WARNINGS = ("memory limit", "cpu cfs quota", "pids limit")
DIAGNOSIS_LINES = 20
EVENTS_SECONDS = 5.0


class DockerProvider(Provider):
    """Starts workers as containers.

    :param data_dir: what is known of the engine is kept there.
    """

    kind = "docker"

    def __init__(self, name: str, *, data_dir: Path, config: DockerConfig) -> None:
        self.name = name
        self.config = config
        self._facts_file = data_dir / FACTS_FILE
        self._engine = Engine(config)
        self._images = Images(self._engine, config.pull_policy, config.auth_config)
        self._launches = Launches(self._engine, self._images, config)
        self._destroying: set[str] = set()
        self._capabilities = Capabilities(max_workers=1)
        self._route: Route | None = None
        #: What the engine said when it was last asked how it is; None while it doesn't answer.
        self._seen: EngineFacts | None = None

    async def __aenter__(self) -> Self:
        """Learn what the engine has, or what it had when it was last seen.

        :raise ProviderSetupError: it was never seen, or a setting contradicts what it has.
        """
        await self._engine.open()
        try:
            facts = await self._learn()
            self._capabilities = self._offer(facts)
            self._route = self._way(facts)
        except BaseException:
            await self._engine.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go; the containers go on."""
        await self._launches.close()
        await self._images.close()
        await self._engine.close()

    async def _learn(self) -> EngineFacts:
        try:
            facts = await self._engine.facts()
        except ProviderUnavailableError as error:
            try:
                known = json.loads(await asyncio.to_thread(self._facts_file.read_text))
                return EngineFacts(**known | {"warnings": tuple(known["warnings"])})
            except (OSError, ValueError, TypeError, KeyError):
                advice = "start the engine, or set HODEI_DOCKER_HOST"
                if self.config.tls_ca or self.config.tls_cert:
                    advice += ", HODEI_DOCKER_TLS_CA (vouches for the engine), HODEI_DOCKER_TLS_CERT (is shown to it)"
                raise ProviderSetupError(f"provider {self.name}: {error}; {advice}") from None
        except ProviderError as error:
            raise ProviderSetupError(f"provider {self.name}: HODEI_DOCKER_NETWORK: {error}") from None

        def keep() -> None:
            self._facts_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = self._facts_file.with_suffix(".new")
            unfinished.write_text(json.dumps(dataclasses.asdict(facts)))
            unfinished.rename(self._facts_file)

        await asyncio.to_thread(keep)
        return facts

    def _offer(self, facts: EngineFacts) -> Capabilities:
        config = self.config
        memory = config.max_memory or max(facts.memory_bytes - config.memory_overhead, 0)
        refused: dict[str, str] = {}
        if config.read_only_root:
            refused["disk_bytes"] = (
                "the root can't be written, and nothing bounds the volumes that jobs write to "
                "(HODEI_DOCKER_READ_ONLY_ROOT=false lets a root be written and bounded)"
            )
        elif not facts.limits_disk:
            refused["disk_bytes"] = f"the engine's storage ({facts.storage}) can't bound what a container writes"
        if not config.gpus:
            refused["gpu_count"] = "there are no GPUs (HODEI_DOCKER_GPUS)"
        workers = config.max_workers or max(8, 2 * facts.processors)
        return Capabilities(
            max_workers=workers,
            max_resources=Resources(config.max_cpu or facts.processors * 1000, memory, 0, config.gpus),
            images=True,
            isolation=True,
            resource_limits=True,
            refused_resources=refused,
            # All of them may wait for an image.
            parallel_launches=workers,
            architectures=architecture_names(facts.architecture),
            cost_per_hour=config.cost_per_hour,
            typical_startup=TYPICAL_STARTUP,
            regions=config.regions,
            labels=config.labels,
        )

    def _way(self, facts: EngineFacts) -> Route | None:
        given = self.config.server_address
        if self.config.network == "host" and not given:
            return None
        if given == "host-gateway":
            return Route(HOST_GATEWAY_NAME, listen=facts.gateway if _is_here(facts.gateway) else "")
        if given:
            address = parse_address(given, default_port=0)
            return Route(address.host, address.port, address.host if _is_here(address.host) else "")
        if not _is_here(facts.gateway):
            where = f"its gateway {facts.gateway} is not this machine" if facts.gateway else "it has no gateway"
            raise ProviderSetupError(
                f"HODEI_DOCKER_SERVER_ADDRESS: set it to where containers of the network "
                f"{self.config.network or 'bridge'} find the workers' listener: {where}"
            )
        return Route(facts.gateway, listen=facts.gateway)

    def capabilities(self) -> Capabilities:
        """Return what the engine has, as far as the settings give it away."""
        return self._capabilities

    def route(self) -> Route | None:
        """Return the network's gateway, or what the settings say."""
        return self._route

    async def health(self) -> Health:
        """Ask the engine; tell how long it took, and what it can't do."""
        began = time.monotonic()
        try:
            facts = await self._engine.facts()
        except ProviderError as error:
            self._seen = None
            return Health(healthy=False, message=str(error))
        self._seen = facts
        took = time.monotonic() - began
        reasons = [text for text in facts.warnings if any(each in text.lower() for each in SERIOUS_WARNINGS)]
        if took > SLOW_SECONDS:
            reasons.append("the engine answers slowly")
        details = f"answered in {took * 1000:.0f} ms, {facts.running} containers running"
        # Processors are shared by turns; memory is not.
        total = Resources(memory_bytes=facts.memory_bytes, gpu_count=self.config.gpus)
        return Health(healthy=True, message="; ".join(reasons), degraded=bool(reasons), details=details, total=total)

    def metrics(self) -> Sequence[Metric]:
        """Return how many containers the engine has; nothing while it doesn't answer."""
        if self._seen is None:
            return ()
        seen = self._seen
        states: Samples = {("running",): seen.running, ("paused",): seen.paused, ("stopped",): seen.stopped}
        text = "The engine's containers, whosever they are, by state."
        return [Metric("docker_containers", "gauge", text, ("state",), states)]

    async def launch(self, request: LaunchRequest) -> Handle:
        """Start a worker in a container; see the contract. An image that may come yet is waited for."""
        offers = self._capabilities
        check_resources(request.resources, offers.max_resources, offers.refused_resources)
        labelled = dataclasses.replace(request, labels={**request.labels, "provider": self.name})
        return await self._launches.launch(labelled)

    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is; see the contract."""
        worker_id = handle.worker_id
        if worker_id in self._launches:
            news = self._launches.news.get(worker_id, "is being launched")
            return Description(Handle(worker_id), WorkerPhase.PENDING, message=news)
        inspected = await self._engine.inspect(container_name(worker_id))
        if inspected is None or inspected["Config"]["Labels"].get(WORKER_LABEL) != worker_id:
            return Description(Handle(worker_id), WorkerPhase.MISSING, message="there is no container of it")
        return describe_container(inspected)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """End a worker and remove its container and volumes; see the contract."""
        worker_id = handle.worker_id
        self._destroying.add(worker_id)
        try:
            await self._launches.give_up(worker_id)
            name = container_name(worker_id)
            inspected = await self._engine.inspect(name)
            if grace > 0 and inspected is not None and inspected["State"]["Status"] == "running":
                await self._engine.stop(name, grace)
            return await self._launches.remove_seen(worker_id, inspected)
        finally:
            self._destroying.discard(worker_id)

    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return the installation's workers here: containers, volumes without their container, launches under way."""
        labels = own_labels(installation_id, self.name)
        rows, owners = await asyncio.gather(self._engine.workers(labels), self._engine.volume_owners(labels))
        found = {worker_id: handle_of(worker_id, container) for worker_id, container, _ in rows if worker_id}
        for worker_id in [*sorted(owners), *self._launches.of(installation_id)]:
            found.setdefault(worker_id, Handle(worker_id))
        return list(found.values())

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield workers whose container has ended, or was removed by somebody else."""
        watch = ContainerWatch(self._engine, own_labels(installation_id, self.name))
        async for worker_id in watch.ended():
            if worker_id in self._destroying or worker_id in self._launches:
                continue
            try:
                description = await self.describe(Handle(worker_id))
            except ProviderError:
                watch.again(worker_id)
                continue
            if description.phase in {WorkerPhase.EXITED, WorkerPhase.MISSING}:
                yield description

    async def diagnose(self, handle: Handle) -> Sequence[str]:
        """Return the container's state, the engine's last events of it and the last that the agent printed."""
        name = container_name(handle.worker_id)
        lines: builtins.list[str] = []
        news = self._launches.news.get(handle.worker_id)
        if news:
            lines.append(news)
        try:
            inspected = await self._engine.inspect(name)
            if inspected is None:
                return lines
            lines.append(state_line(inspected))
            lines += await self._last_events(str(inspected["Id"]))
            lines += await self._engine.output(name, DIAGNOSIS_LINES)
        except (ProviderError, TimeoutError) as error:
            lines.append(str(error) or "the engine did not answer in time")
        return lines

    async def _last_events(self, container_id: str) -> builtins.list[str]:
        filters = {"container": [container_id], "type": ["container"]}
        events = self._engine.events(filters, since="0", until=f"{time.time():.6f}")
        async with asyncio.timeout(EVENTS_SECONDS):
            return [event_line(event) async for event in events][-DIAGNOSIS_LINES:]


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine."""
    try:
        address = ipaddress.ip_address(host)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except (ValueError, OSError):
        return False
    return True
