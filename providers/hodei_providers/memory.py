"""A provider whose workers are records, for tests of what uses providers; and some that fail, named by how."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from hodei_providers.contract import (
    Capabilities,
    Description,
    ExitReason,
    Handle,
    Health,
    LaunchRequest,
    Provider,
    ProviderUnavailableError,
    QuotaExceededError,
    UnsupportedRequestError,
    WorkerPhase,
)


@dataclasses.dataclass(slots=True)
class MemoryWorker:
    """A worker that exists only here."""

    request: LaunchRequest
    exit_code: int | None = None
    reason: ExitReason = ExitReason.EXITED


class MemoryProvider(Provider):
    """Keeps workers in a dictionary, which several providers may share as they would share an engine.

    :param on_launch: called with each launch, to play the worker.
    """

    kind = "memory"

    def __init__(
        self,
        name: str = "memory",
        *,
        data_dir: Path | None = None,  # noqa: ARG002 - what every provider is made with
        options: Mapping[str, str] | None = None,  # noqa: ARG002 - the same
        infrastructure: dict[str, MemoryWorker] | None = None,
        on_launch: Callable[[LaunchRequest], Awaitable[None]] | None = None,
        max_workers: int = 10,
    ) -> None:
        self.name = name
        self.infrastructure = {} if infrastructure is None else infrastructure
        self._on_launch = on_launch
        self._capabilities = Capabilities(max_workers=max_workers, typical_startup=0.0, survives_server=False)
        self._changed = asyncio.Event()

    def capabilities(self) -> Capabilities:
        """Return what it was made with."""
        return self._capabilities

    async def health(self) -> Health:
        """Always well."""
        return Health(healthy=True)

    async def launch(self, request: LaunchRequest) -> Handle:
        """Write a worker down."""
        if request.image:
            raise UnsupportedRequestError("image", "there are no images in memory")
        for field in dataclasses.fields(request.resources):
            if getattr(request.resources, field.name):
                raise UnsupportedRequestError(f"resources.{field.name}", "memory limits nothing")
        if request.worker_id not in self.infrastructure:
            self.infrastructure[request.worker_id] = MemoryWorker(request)
            if self._on_launch is not None:
                await self._on_launch(request)
        return Handle(request.worker_id)

    def end(self, worker_id: str, exit_code: int, reason: ExitReason = ExitReason.EXITED) -> None:
        """Have a worker exit."""
        worker = self.infrastructure[worker_id]
        worker.exit_code, worker.reason = exit_code, reason
        self._changed.set()

    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is."""
        worker = self.infrastructure.get(handle.worker_id)
        if worker is None:
            return Description(Handle(handle.worker_id), WorkerPhase.MISSING)
        if worker.exit_code is None:
            return Description(Handle(handle.worker_id), WorkerPhase.RUNNING)
        return Description(Handle(handle.worker_id), WorkerPhase.EXITED, worker.exit_code, None, worker.reason)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:  # noqa: ARG002 - it takes no time
        """Forget a worker."""
        self.infrastructure.pop(handle.worker_id, None)
        return True

    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return an installation's workers."""
        return [
            Handle(worker_id)
            for worker_id, worker in self.infrastructure.items()
            if worker.request.installation_id == installation_id
        ]

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield workers as they exit."""
        told: set[str] = set()
        while True:
            for handle in await self.list(installation_id):
                description = await self.describe(handle)
                if description.phase is WorkerPhase.EXITED and handle.worker_id not in told:
                    told.add(handle.worker_id)
                    yield description
            self._changed.clear()
            await self._changed.wait()

    async def diagnose(self, handle: Handle) -> Sequence[str]:
        """Return what is known."""
        return [f"worker {handle.worker_id}: {(await self.describe(handle)).phase.value}"]


class SaysNever(MemoryProvider):
    """Its watch says of each worker that it will never start, whatever became of it since (W03).

    :ivar told: once somebody has heard that, and asks for more.
    """

    def __init__(self, name: str = "memory") -> None:
        super().__init__(name)
        self.told = asyncio.Event()

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield what is not so any more."""
        while not (handles := await self.list(installation_id)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        for handle in handles:
            yield Description(handle, WorkerPhase.PENDING, reason=ExitReason.IMAGE, permanent=True)
        self.told.set()
        await asyncio.Event().wait()


class LaunchAnswerLost(MemoryProvider):
    """The worker is launched, the answer says otherwise (W13)."""

    async def launch(self, request: LaunchRequest) -> Handle:
        """Launch, then fail."""
        await super().launch(request)
        raise ProviderUnavailableError("the answer was lost")


class FailsToLaunch(MemoryProvider):
    """Launches nothing for the first `failures` times."""

    failures = 1

    async def launch(self, request: LaunchRequest) -> Handle:
        """Fail, or launch."""
        if self.failures > 0:
            self.failures -= 1
            raise ProviderUnavailableError("the infrastructure can't be reached")
        return await super().launch(request)


class OutOfReach(MemoryProvider):
    """Answers nothing that is about a worker, until it is `back`."""

    back = False

    async def launch(self, request: LaunchRequest) -> Handle:
        """Fail, or launch."""
        self._reach()
        return await super().launch(request)

    async def describe(self, handle: Handle) -> Description:
        """Fail, or describe."""
        self._reach()
        return await super().describe(handle)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """Fail, or destroy."""
        self._reach()
        return await super().destroy(handle, grace=grace)

    def _reach(self) -> None:
        if not self.back:
            raise ProviderUnavailableError("the infrastructure can't be reached")


class OutOfQuota(MemoryProvider):
    """Has no room, ever."""

    async def launch(self, request: LaunchRequest) -> Handle:
        """Refuse."""
        raise QuotaExceededError(f"no room for {request.worker_id}")


class AsksForPatience(MemoryProvider):
    """Asks at its first launch to be left alone for `seconds`, and refuses all that come before these are over."""

    seconds = 0.5
    _until = 0.0

    async def launch(self, request: LaunchRequest) -> Handle:
        """Refuse, or launch."""
        now = time.monotonic()
        self._until = self._until or now + self.seconds
        if now < self._until:
            error = QuotaExceededError("too many requests")
            error.retry_after = self._until - now
            raise error
        return await super().launch(request)


class NotGoneAtOnce(MemoryProvider):
    """Can't say that a worker is gone for the first `refusals` times."""

    refusals = 2

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """Say no, or destroy."""
        if self.refusals > 0:
            self.refusals -= 1
            return False
        return await super().destroy(handle, grace=grace)


class OutOfSight(MemoryProvider):
    """Has no trace of workers that are `lost`, and can't say that they have ended."""

    def __init__(self, name: str = "memory") -> None:
        super().__init__(name)
        self.lost: set[str] = set()

    def lose(self, worker_id: str) -> None:
        """Have a worker be out of sight."""
        self.lost.add(worker_id)
        self._changed.set()

    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is, or that nobody knows."""
        if handle.worker_id in self.lost:
            return Description(handle, WorkerPhase.MISSING, unconfirmed=True)
        return await super().describe(handle)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """Say no, or destroy."""
        return handle.worker_id not in self.lost and await super().destroy(handle, grace=grace)

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:  # noqa: ARG002 - all are its own
        """Yield those that are lost."""
        while True:
            for worker_id in list(self.lost):
                yield await self.describe(Handle(worker_id))
            self._changed.clear()
            await self._changed.wait()
