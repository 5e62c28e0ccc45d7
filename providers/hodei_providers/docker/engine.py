"""The engine's API as the provider uses it. What goes wrong is raised as the contract's errors, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import aiodocker
import aiohttp
from aiodocker.events import DockerEvents
from aiodocker.volumes import DockerVolume

from hodei_providers.contract import ProviderUnavailableError
from hodei_providers.docker.config import DockerConfig, engine_address
from hodei_providers.docker.errors import FOREIGN, is_status, provider_error
from hodei_providers.docker.spec import WORKER_LABEL, ImageFacts
from hodei_providers.registry import ProviderSetupError

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


@dataclasses.dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine has.

    :param gateway: of the workers' network, or the `host-gateway` that is set; empty where there is none.
    :param running: how many containers run there, whosever they are; so with `paused` and `stopped`.
    :param warnings: what it can't do, in its own words.
    :param architecture: of its processors, as the kernel names it.
    """

    processors: int
    memory_bytes: int
    gateway: str = ""
    storage: str = ""
    running: int = dataclasses.field(default=0, compare=False)
    paused: int = dataclasses.field(default=0, compare=False)
    stopped: int = dataclasses.field(default=0, compare=False)
    warnings: tuple[str, ...] = ()
    architecture: str = ""

    @property
    def limits_disk(self) -> bool:
        """Whether the storage driver may bound what is written to a container's root.

        An engine does not tell whether its xfs has project quotas: it refuses the container where there are none.
        """
        return self.storage.partition(" on ")[0] in {"btrfs", "zfs"} or self.storage == "overlay2 on xfs"


def _untyped(of_the_library: Any) -> Any:
    """Return what the library has no types for."""
    return of_the_library


@contextlib.contextmanager
def _mapped(doing: str) -> Iterator[None]:
    try:
        yield
    except FOREIGN as error:
        raise provider_error(error, doing) from error


class Engine:
    """One engine. `open` before anything else."""

    def __init__(self, config: DockerConfig) -> None:
        self._config = config
        self.address = config.host or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
        # The library is typed in parts only.
        self._docker: Any = None

    async def open(self) -> None:
        """Make the client; nothing is sent yet.

        :raise ProviderSetupError: the engine's address is none, or a file of TLS can't be used; names the variable.
        """
        try:
            engine_address(self.address)
        except ValueError as error:
            variable = "HODEI_DOCKER_HOST" if self._config.host else "DOCKER_HOST"
            raise ProviderSetupError(f"{variable}: {self.address!r} can't be used: {error}") from None
        timeout = aiohttp.ClientTimeout(total=self._config.api_timeout, sock_connect=self._config.api_timeout)
        address, context = self.address, self._tls()
        if context is not None:
            address = "https://" + address.partition("://")[2]
        self._docker = aiodocker.Docker(url=address, ssl_context=context, timeout=timeout)

    def _tls(self) -> ssl.SSLContext | None:
        config = self._config
        if not (config.tls_ca or config.tls_cert):
            return None
        variables = "HODEI_DOCKER_TLS_CA"
        try:
            context = ssl.create_default_context(cafile=config.tls_ca or None)
            if config.tls_cert:
                variables = "HODEI_DOCKER_TLS_CERT, HODEI_DOCKER_TLS_KEY"
                context.load_cert_chain(config.tls_cert, config.tls_key)
        except OSError as error:  # that of TLS is one, too
            raise ProviderSetupError(f"{variables}: can't be used: {error}") from None
        return context

    async def close(self) -> None:
        """Close the connections."""
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    # The engine itself

    async def facts(self) -> EngineFacts:
        """Ask what the engine has."""
        with _mapped(f"asking the engine at {self.address}"):
            info = await self._docker.system.info()
            backing = dict(info.get("DriverStatus") or []).get("Backing Filesystem", "")
            return EngineFacts(
                processors=int(info["NCPU"]),
                memory_bytes=int(info["MemTotal"]),
                gateway=await self._gateway(),
                storage=f"{info.get('Driver', '')} on {backing}" if backing else str(info.get("Driver", "")),
                running=int(info.get("ContainersRunning", 0)),
                paused=int(info.get("ContainersPaused", 0)),
                stopped=int(info.get("ContainersStopped", 0)),
                warnings=tuple(info.get("Warnings") or ()),
                architecture=str(info.get("Architecture", "")),
            )

    async def _gateway(self) -> str:
        found = await self._gateway_of(self._config.network or "bridge")
        if self._config.server_address == "host-gateway":
            # That is the default bridge's, whichever network a container is in.
            try:
                return await self._gateway_of("bridge")
            except aiodocker.DockerError as error:
                if not is_status(error, 404):  # an engine may do without
                    raise
        return found

    async def _gateway_of(self, name: str) -> str:
        if name in {"host", "none"}:
            return ""
        network = await (await self._docker.networks.get(name)).show()
        for each in network.get("IPAM", {}).get("Config") or []:
            if each.get("Gateway"):
                return str(each["Gateway"])
            if network.get("Driver") == "bridge" and each.get("Subnet"):
                # A bridge that the engine has just made tells no gateway: it is the first address.
                return str(ipaddress.ip_network(each["Subnet"])[1])
        return ""

    # Containers

    async def create(self, name: str, spec: Mapping[str, Any]) -> str | None:
        """Make a container; return its id, or None when there is one of this name."""
        try:
            return str((await self._docker.containers.create(dict(spec), name=name)).id)
        except FOREIGN as error:
            if is_status(error, 409):
                return None
            raise provider_error(error, "making the container") from error

    async def put(self, name: str, folder: str, archive: bytes) -> None:
        """Unpack an archive in a container's folder, which lies on a volume."""
        with _mapped("handing the token over"):
            await self._docker.containers.container(name).put_archive(folder, archive)

    async def start(self, name: str) -> None:
        """Start a container; one that runs is left alone."""
        with _mapped("starting the container"):
            await self._docker.containers.container(name).start()

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a container; None when there is none."""
        try:
            return dict(await self._docker.containers.container(name).show())
        except FOREIGN as error:
            if is_status(error, 404):
                return None
            raise provider_error(error, "looking at the container") from error

    async def stop(self, name: str, grace: float) -> None:
        """Have a container end, and kill it after the grace."""
        with contextlib.suppress(*FOREIGN):
            await self._docker.containers.container(name).stop(
                t=max(round(grace), 1), timeout=aiohttp.ClientTimeout(total=grace + 30.0)
            )

    async def remove(self, name: str) -> bool:
        """Kill and remove a container; return whether it is gone."""
        try:
            await self._docker.containers.container(name).delete(force=True, v=True)
        except FOREIGN as error:
            if is_status(error, 404):
                return True
            if is_status(error, 409):  # it is being removed already
                return False
            raise provider_error(error, "removing the container") from error
        return True

    async def wait(self, name: str, seconds: float) -> int:
        """Wait for a container's end; return its exit code."""
        with _mapped("waiting for the container"):
            async with asyncio.timeout(seconds):
                answer = await self._docker.containers.container(name).wait()
            return int(answer["StatusCode"])

    async def output(self, name: str, lines: int) -> list[str]:
        """Return the last lines of what a container printed."""
        with _mapped("reading the container's output"):
            pieces = await self._docker.containers.container(name).log(stdout=True, stderr=True, tail=lines)
            return "".join(pieces).splitlines()

    async def workers(self, labels: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return worker, container and state of each container with all of these labels, ``key=value``."""
        filters = json.dumps({"label": list(labels)})
        with _mapped("listing containers"):
            found = await self._docker.containers.list(all="true", filters=filters)
            rows = [each._container for each in found]  # noqa: SLF001 - the library hands the answer out nowhere else
            return [(row["Labels"].get(WORKER_LABEL, ""), row["Id"], row["State"]) for row in rows]

    # Volumes

    async def volume_owners(self, labels: Sequence[str]) -> set[str]:
        """Return the workers that the volumes with all of these labels belong to."""
        with _mapped("listing volumes"):
            answer = await self._docker.volumes.list(filters={"label": list(labels)})
            return {each["Labels"].get(WORKER_LABEL, "") for each in answer.get("Volumes") or []} - {""}

    async def remove_volume(self, name: str) -> bool:
        """Remove a volume; return whether it is gone."""
        volume = _untyped(DockerVolume)(self._docker, name)
        try:
            await volume.delete()
        except FOREIGN as error:
            if is_status(error, 404):
                return True
            if is_status(error, 409):  # a container that is being removed still has it
                return False
            raise provider_error(error, "removing the volume") from error
        return True

    # Images

    async def image(self, name: str) -> ImageFacts | None:
        """Return what is known of an image that is there; None when it is not."""
        try:
            answer = await self._docker.images.inspect(name)
        except FOREIGN as error:
            if is_status(error, 404):
                return None
            raise provider_error(error, f"looking for the image {name}") from error
        config = answer.get("Config") or {}
        return ImageFacts(answer["Id"], str(config.get("User") or ""), str(config.get("WorkingDir") or ""))

    async def pull(self, name: str, credentials: Mapping[str, str] | None) -> AsyncIterator[dict[str, Any]]:
        """Pull an image and yield the engine's progress.

        :raise aiodocker.DockerError: and the rest of `errors.FOREIGN`, for who tells the hopeless from the rest.
        """
        async for progress in self._docker.images.pull(
            name, auth=dict(credentials) if credentials else None, stream=True, timeout=None
        ):
            yield progress

    # Events

    async def events(self, filters: Mapping[str, Sequence[str]], **bounds: str) -> AsyncIterator[dict[str, Any]]:
        """Yield events as they come, until the connection ends.

        :param bounds: ``since`` and ``until``, Unix seconds.
        """
        stream = _untyped(DockerEvents)(self._docker)
        chosen = json.dumps({key: list(value) for key, value in filters.items()})
        subscriber = stream.subscribe(filters=chosen, **bounds)
        try:
            while (event := await subscriber.get()) is not None:
                yield event
            if stream.task is not None and stream.task.done() and (error := stream.task.exception()) is not None:
                raise ProviderUnavailableError(f"the engine's events can't be read: {error}")
        finally:
            with contextlib.suppress(*FOREIGN):
                await stream.stop()
