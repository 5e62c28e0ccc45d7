"""The workers of all providers: launched, looked for, removed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as types_wire
from hodei_providers.contract import (
    Description,
    Handle,
    Health,
    ImageRejectedError,
    LaunchRejectedError,
    LaunchRequest,
    Provider,
    ProviderError,
    Purpose,
    QuotaExceededError,
    Resources,
    UnsupportedRequestError,
    WorkerPhase,
    say_nothing,
)
from hodei_providers.faults import fault_point
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.workers import set_handle, set_otp, worker_row
from hodei_server.domain.blame import Blame
from hodei_server.domain.breaker import Breaker
from hodei_server.domain.ids import new_token
from hodei_server.domain.measures import Measures
from hodei_server.domain.states import Cause
from hodei_server.instruments import LAUNCH_FAILURES, PROVIDER_CHECK, WORKER_CREATION
from hodei_server.logs.changes import Change
from hodei_server.work.background import Background
from hodei_server.work.removals import Removals
from hodei_server.work.sessions import Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """How a provider's workers reach the server.

    :param address: the worker listener as they see it.
    :param ca_pem: the authority to trust for it, if it is not a public one.
    """

    address: str
    ca_pem: bytes | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FleetSettings:
    """How workers are launched.

    :param reach: of each provider.
    :param otp_lifetime: seconds.
    :param grace: seconds between SIGTERM and SIGKILL of jobs that say nothing.
    :param environment: more variables for every worker.
    """

    installation_id: str
    reach: Mapping[str, Reach]
    otp_lifetime: float
    grace: float
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Fleet:
    """Asks providers for workers and rids them of those that are done."""

    def __init__(
        self, providers: Mapping[str, Provider], database: Database, sessions: Sessions, settings: FleetSettings
    ) -> None:
        self.providers = providers
        self.health: dict[str, Health] = {name: Health(healthy=True) for name in providers}
        #: Whether each provider is left alone for a while.
        self.breakers = {name: Breaker() for name in providers}
        #: How long starts take at each, and how well it has been.
        self.measures = {
            name: Measures(provider.capabilities().typical_startup) for name, provider in providers.items()
        }
        #: Moves when a worker is gone: there may be room for another.
        self.room = Change()
        self._background = Background()
        #: What is to be removed, and how that goes.
        self.removals = Removals(providers, database, sessions, self._background, self.room)
        self._database = database
        self._settings = settings
        #: Providers that show which job a worker has; the others are not told, which would cost each job a little.
        self._showing = {name for name, each in providers.items() if type(each).given is not Provider.given}
        self._launches = {
            name: asyncio.Semaphore(provider.capabilities().parallel_launches) for name, provider in providers.items()
        }

    async def launch(
        self,
        row: RowMapping,
        *,
        purpose: Purpose | None = None,
        grace: float | None = None,
        deadline: float = 0.0,
        report: Callable[[str], None] = say_nothing,
    ) -> None:
        """Launch a worker that is written down. Launching it again, after a restart, is harmless.

        :param purpose: the job that it is launched for.
        :param grace: that job's, in seconds; see `LaunchRequest`, as for `deadline` and `report`.
        :raise ProviderError: it could not be launched; nothing of it is left that `list` would not find.
        """
        worker_id = row["worker_id"]
        provider = self.providers[row["provider"]]
        reach = self._settings.reach[row["provider"]]
        async with self._launches[row["provider"]]:
            otp = new_token()
            lifetime = int(self._settings.otp_lifetime * 1e6)
            if not await self._database.write(lambda tx: set_otp(tx, worker_id, otp, lifetime)):
                return  # registered, or being removed, in the meantime
            asked = types_wire.Resources.FromString(row["resources"])
            request = LaunchRequest(
                worker_id=worker_id,
                installation_id=self._settings.installation_id,
                server_address=reach.address,
                otp=otp,
                resources=Resources(
                    asked.cpu_millis, asked.memory_bytes, asked.disk_bytes, asked.gpu_count, asked.gpu_type
                ),
                image=row["image"],
                max_jobs=row["max_jobs"],
                ca_pem=reach.ca_pem,
                labels=purpose.labels if purpose is not None else {"tenant": row["tenant"]},
                job_labels=purpose.job_labels if purpose is not None else {},
                job_annotations=purpose.job_annotations if purpose is not None else {},
                grace=self._settings.grace if grace is None else grace,
                deadline=deadline,
                report=report,
                environment=self._settings.environment,
            )
            try:
                with WORKER_CREATION.labels(provider.name).time():
                    handle = await provider.launch(request)
            except ProviderError as error:
                LAUNCH_FAILURES.labels(provider.name, cause_of(error).name.lower()).inc()
                self.breakers[row["provider"]].asked(time.monotonic(), error.retry_after)
                # An error may be about the answer only: look for the worker before believing it (W13).
                try:
                    found = await provider.describe(Handle(worker_id))
                except ProviderError:
                    # Nobody can tell: it is removed, which goes on until somebody can.
                    raise error from None
                if not error.retryable or found.phase not in {WorkerPhase.PENDING, WorkerPhase.RUNNING}:
                    raise
                handle = found.handle
            fault_point("worker.launched")
            await self._database.write(lambda tx: set_handle(tx, worker_id, handle.data))
            _log.info("worker.launched", worker_id=worker_id, provider=provider.name)

    def given(self, worker_id: str, provider_name: str, purpose: Callable[[], Purpose]) -> None:
        """Tell a provider in the background which job a running worker was given, if it shows that."""
        if provider_name in self._showing:
            self.start(self._given(worker_id, provider_name, purpose()), f"purpose of {worker_id}")

    async def _given(self, worker_id: str, provider_name: str, purpose: Purpose) -> None:
        try:
            await self.providers[provider_name].given(await self._handle(worker_id), purpose)
        except ProviderError as error:
            _log.warning("worker.not_named", worker_id=worker_id, provider=provider_name, error=str(error))

    def registered(self, row: RowMapping) -> None:
        """Tell a worker's provider in the background that its one-time token is burnt.

        :param row: the worker's.
        """
        self.start(self._registered(row), f"token of {row['worker_id']}")

    async def _registered(self, row: RowMapping) -> None:
        provider = self.providers.get(row["provider"])
        handle = Handle(row["worker_id"], json.loads(row["handle"]) if row["handle"] else {})
        try:
            if provider is not None:
                await provider.registered(handle)
        except ProviderError as error:
            _log.warning("worker.token_left", worker_id=handle.worker_id, provider=row["provider"], error=str(error))

    async def describe(self, worker_id: str, provider_name: str, handle: Handle | None = None) -> Description:
        """Ask a worker's provider about it; PENDING where the provider can't tell, or can't be asked."""
        try:
            handle = handle or await self._handle(worker_id)
        except DatabaseUnavailableError as error:
            message = f"provider {provider_name} was not asked: {error}"
            return Description(Handle(worker_id), WorkerPhase.PENDING, message=message)
        provider = self.providers.get(provider_name)
        if provider is None:
            return Description(handle, WorkerPhase.PENDING, message=f"provider {provider_name} is not configured")
        try:
            return await provider.describe(handle)
        except ProviderError as error:
            return Description(handle, WorkerPhase.PENDING, message=str(error))

    async def why_ending(self, worker_id: str, provider_name: str) -> str:
        """Return who asks a worker to end, and why; as far as its provider can tell."""
        provider = self.providers.get(provider_name)
        if provider is None:
            return f"provider {provider_name} is not configured"
        try:
            return await provider.why_ending(await self._handle(worker_id))
        except (ProviderError, DatabaseUnavailableError) as error:
            return str(error)

    async def diagnose(self, worker_id: str, provider_name: str) -> list[str]:
        """Return what could explain a worker's failure, a line each."""
        provider = self.providers.get(provider_name)
        if provider is None:
            return [f"provider {provider_name} is not configured"]
        try:
            return list(await provider.diagnose(await self._handle(worker_id)))
        except (ProviderError, DatabaseUnavailableError) as error:
            return [str(error)]

    async def _handle(self, worker_id: str) -> Handle:
        row = await self._database.read(lambda tx: worker_row(tx, worker_id))
        return Handle(worker_id, json.loads(row["handle"]) if row is not None and row["handle"] else {})

    async def remove(
        self, worker_id: str, reason: str, *, leave_time: bool = False, idle: bool = False, provider: str = ""
    ) -> bool:
        """Remove a worker; see `Removals.remove`."""
        return await self.removals.remove(worker_id, reason, leave_time=leave_time, idle=idle, provider=provider)

    def remove_soon(self, worker_id: str, reason: str, *, leave_time: bool = False, idle: bool = False) -> None:
        """Remove a worker in the background."""
        self.removals.remove_soon(worker_id, reason, leave_time=leave_time, idle=idle)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        """Run something in the background."""
        self._background.start(coroutine, name)

    def remember(self, starts: Sequence[RowMapping]) -> None:
        """Take how long starts took under the server before, the oldest first."""
        for row in starts:
            if row["provider"] in self.measures:
                self.measures[row["provider"]].starts.add(row["image"], row["took"] / 1e6)

    def ready(self, row: RowMapping) -> None:
        """Note a worker's first hello: how long its start took, and that its provider works.

        :param row: the worker's, after the hello.
        """
        measures = self.measures.get(row["provider"])
        if measures is not None:
            measures.starts.add(row["image"], (row["hello_at"] - row["created_at"]) / 1e6)
            measures.health.add(time.monotonic(), well=True)
            self.breakers[row["provider"]].succeeded()

    def failed(self, provider: str, blame: Blame) -> None:
        """Note a launch that failed, or a worker that was lost."""
        if provider not in self.measures:
            return
        now = time.monotonic()
        if blame is not Blame.NOTHING:
            self.measures[provider].health.add(now, well=False)
        if blame is not Blame.PROVIDER:
            self.breakers[provider].undecided()
            return
        self.breakers[provider].failed(now)
        # What is out of reach is known to be so before the next job is sent there.
        self.start(self._check_health(provider), f"health of {provider} after a failure")

    async def check_health(self) -> None:
        """Ask every provider how it is, all at once: one that is slow to say so keeps nobody waiting for the others."""
        await asyncio.gather(*(self._check_health(name) for name in self.providers))

    async def _check_health(self, name: str) -> None:
        began = time.monotonic()
        with PROVIDER_CHECK.labels(name).time():
            health = await self.providers[name].health()
        now = time.monotonic()
        self.measures[name].health.add(now, well=health.healthy and not health.degraded, latency=now - began)
        changed = health != self.health[name]
        self.health[name] = health
        if changed:
            _log.info("provider.health", provider=name, healthy=health.healthy, message=health.message)
            self.room.moved()

    async def close(self) -> None:
        """Stop what runs in the background; workers go on, and the next start takes up where this one ended."""
        await self._background.close()

    async def remove_all(self) -> None:
        """Remove every worker of this installation: nobody will come back for them."""
        await self.removals.remove_all(self._settings.installation_id)


def cause_of(error: ProviderError) -> Cause:
    """Return what a launch that a provider refused means to its job."""
    if isinstance(error, QuotaExceededError):
        return Cause.QUOTA
    if isinstance(error, ImageRejectedError):
        return Cause.IMAGE
    if isinstance(error, (LaunchRejectedError, UnsupportedRequestError)):
        return Cause.UNSCHEDULABLE
    return Cause.PROVIDER_ERROR
