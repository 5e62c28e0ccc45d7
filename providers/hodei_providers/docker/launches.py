"""Launches: from a request to a started container; one at a time for each worker, and found whoever dies half-way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from hodei_providers.contract import Handle, LaunchRejectedError, LaunchRequest, ProviderError, ProviderUnavailableError
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.description import handle_of
from hodei_providers.docker.engine import Engine
from hodei_providers.docker.images import Images
from hodei_providers.docker.spec import (
    STATE_MOUNT,
    WORKER_LABEL,
    ImageFacts,
    agent_filler_spec,
    agent_volume_name,
    container_name,
    container_spec,
    home_volume_name,
    state_archive,
)
from hodei_providers.faults import fault_point

#: Containers that are made and started at once: an engine takes no more than its processors can, and answers late.
PARALLEL = 8
FILL_SECONDS = 120.0


class Launches:
    """Launches that are under way.

    :ivar news: the last line that was reported of each.
    """

    def __init__(self, engine: Engine, images: Images, config: DockerConfig) -> None:
        self.news: dict[str, str] = {}
        self._engine = engine
        self._images = images
        self._config = config
        self._tasks: dict[str, asyncio.Task[Handle]] = {}
        self._requests: dict[str, LaunchRequest] = {}
        self._making: set[str] = set()
        self._slots = asyncio.Semaphore(PARALLEL)
        self._filled: dict[str, asyncio.Task[str]] = {}

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._tasks

    def of(self, installation_id: str) -> list[str]:
        """Return an installation's workers that are being launched."""
        return [name for name, request in self._requests.items() if request.installation_id == installation_id]

    async def launch(self, request: LaunchRequest) -> Handle:
        """Launch a worker, or join its launch. Carried to its end even if the caller goes."""
        worker_id = request.worker_id
        task = self._tasks.get(worker_id)
        if task is None:
            task = self._tasks[worker_id] = asyncio.create_task(self._launch(request), name=f"container of {worker_id}")
            self._requests[worker_id] = request
            task.add_done_callback(lambda done: self._ended(worker_id, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise ProviderError("it was removed before its container was made", retryable=False) from None
            raise

    def _ended(self, worker_id: str, task: asyncio.Task[Handle]) -> None:
        del self._tasks[worker_id], self._requests[worker_id]
        if task.cancelled() or task.exception() is None:
            self.news.pop(worker_id, None)

    async def give_up(self, worker_id: str) -> None:
        """End a launch, if there is one; a container that is just being made is there, or gone, once this returns."""
        task = self._tasks.get(worker_id)
        if task is not None:
            if worker_id not in self._making:
                task.cancel()
            await asyncio.wait({task})
        self.news.pop(worker_id, None)

    async def close(self) -> None:
        """End all launches; the next server goes on with them."""
        await asyncio.gather(*(self.give_up(worker_id) for worker_id in list(self._tasks)))
        for task in self._filled.values():
            task.cancel()
        await asyncio.gather(*self._filled.values(), return_exceptions=True)

    async def _launch(self, request: LaunchRequest) -> Handle:
        def report(line: str) -> None:
            self.news[request.worker_id] = line
            request.report(line)

        own = await self._images.ensure(self._config.worker_image, report) if request.image else None
        image = await self._images.ensure(request.image or self._config.worker_image, report)
        if own is None:
            return await self._make_in_turn(request, image, "")
        filled = own.image_id in self._filled
        try:
            return await self._make_in_turn(request, image, await self._agent_volume(own))
        except LaunchRejectedError:
            if not filled:
                raise
            # Somebody may have removed the volume since it was filled: an empty one took its place.
            return await self._make_in_turn(request, image, await self._agent_volume(own))

    async def _make_in_turn(self, request: LaunchRequest, image: ImageFacts, agent_volume: str) -> Handle:
        async with self._slots:
            self._making.add(request.worker_id)
            try:
                # From here on to the end: half a container is looked for by nobody who was told that there is none.
                return await self._make(request, image, agent_volume)
            finally:
                self._making.discard(request.worker_id)

    async def _make(self, request: LaunchRequest, image: ImageFacts, agent_volume: str) -> Handle:
        name = container_name(request.worker_id)
        spec = container_spec(request, self._config, image, agent_volume)
        container_id = await self._engine.create(name, spec)
        if container_id is None:
            there = await self._engine.inspect(name)
            if there is None:
                raise ProviderUnavailableError("its container is being removed")
            if there["Config"]["Labels"].get(WORKER_LABEL) != request.worker_id:
                raise LaunchRejectedError(f"there is another container of the name {name}")
            container_id = str(there["Id"])
            if there["State"]["Status"] != "created":
                return handle_of(request.worker_id, container_id)
        fault_point("docker.created")
        try:
            await self._engine.put(name, STATE_MOUNT, state_archive(request, self._config.user or image.user))
            await self._engine.start(name)
        except ProviderError:
            with contextlib.suppress(ProviderError):
                there = await self._engine.inspect(name)
                if there is not None and there["State"]["Status"] == "running":
                    return handle_of(request.worker_id, container_id)  # the answer was wrong, not the start (W13)
                await self.remove(request.worker_id)
            self._filled.clear()  # the volume with the agent may have been removed
            raise
        fault_point("docker.started")
        return handle_of(request.worker_id, container_id)

    async def remove(self, worker_id: str) -> bool:
        """Remove a worker's container and volumes, a stranger of the name not; return whether they are gone."""
        return await self.remove_seen(worker_id, await self._engine.inspect(container_name(worker_id)))

    async def remove_seen(self, worker_id: str, there: Mapping[str, Any] | None) -> bool:
        """Do the same with what the engine has just told of the container."""
        if there is not None:
            if there["Config"]["Labels"].get(WORKER_LABEL) != worker_id:
                return True
            if not await self._engine.remove(str(there["Id"])):
                return False
        gone = await asyncio.gather(
            self._engine.remove_volume(container_name(worker_id)),
            self._engine.remove_volume(home_volume_name(worker_id)),
        )
        return all(gone)

    # The agent, for images that have none

    async def _agent_volume(self, own: ImageFacts) -> str:
        task = self._filled.get(own.image_id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._filled[own.image_id] = asyncio.create_task(self._fill(own), name="fill the agent's volume")
        return await asyncio.shield(task)

    async def _fill(self, own: ImageFacts) -> str:
        volume = agent_volume_name(own.image_id)
        # A name of this time's own: what another server left behind is in nobody's way.
        name = f"{volume}-{time.time_ns():x}"
        await self._engine.create(name, agent_filler_spec(self._config.worker_image, volume, own.image_id))
        try:
            await self._engine.start(name)
            code = await self._engine.wait(name, FILL_SECONDS)
            if code != 0:
                words = " ".join(await self._engine.output(name, 5))
                raise LaunchRejectedError(f"the agent can't be taken out of {self._config.worker_image}: {words}")
        finally:
            with contextlib.suppress(ProviderError):
                await asyncio.shield(self._engine.remove(name))
        return volume
