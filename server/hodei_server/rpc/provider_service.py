"""`ProviderService`: what runs the workers, and the workers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from grpc import aio

from hodei.v1 import provider_pb2 as wire
from hodei.v1 import provider_pb2_grpc, worker_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_providers.contract import Health
from hodei_server.db.database import Database
from hodei_server.db.job_queries import list_workers
from hodei_server.db.providers import ProviderState, set_provider_state
from hodei_server.db.workers import counts_by_provider, drain_worker
from hodei_server.domain.errors import InvalidRequestError, NotFoundError, Violation
from hodei_server.rpc.messages import worker_message
from hodei_server.rpc.requests import PageTokens, page_size, require
from hodei_server.work.attempts import Attempts
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.sessions import Sessions

Context = aio.ServicerContext[Any, Any]


class ProviderService(provider_pb2_grpc.ProviderServiceServicer):
    """Tells of providers and workers, and what they may do."""

    def __init__(self, database: Database, scheduler: Scheduler, sessions: Sessions, attempts: Attempts) -> None:
        self._database = database
        self._scheduler = scheduler
        self._sessions = sessions
        self._attempts = attempts

    async def ListProviders(self, request: wire.ListProvidersRequest, context: Context) -> wire.ListProvidersResponse:  # noqa: N802, ARG002 - the wire's
        """Return every provider."""
        held = await self._database.read(counts_by_provider)
        names = sorted(self._scheduler.fleet.providers)
        return wire.ListProvidersResponse(providers=[self._message(name, held) for name in names])

    async def GetProvider(self, request: wire.GetProviderRequest, context: Context) -> wire.GetProviderResponse:  # noqa: N802, ARG002 - the wire's
        """Return one provider."""
        name = self._known(request.name)
        held = await self._database.read(counts_by_provider)
        return wire.GetProviderResponse(provider=self._message(name, held))

    async def SetProviderState(  # noqa: N802 - the wire's name
        self,
        request: wire.SetProviderStateRequest,
        context: Context,  # noqa: ARG002 - the wire's shape
    ) -> wire.SetProviderStateResponse:
        """Enable, drain or disable a provider."""
        name = self._known(request.name)
        if request.state not in wire.ProviderState.values() or not request.state:
            raise InvalidRequestError([Violation("state", "must be enabled, draining or disabled")])
        state = ProviderState(request.state)
        await self._database.write(lambda tx: set_provider_state(tx, name, state))
        self._scheduler.states[name] = state
        self._scheduler.fleet.room.moved()
        held = await self._database.read(counts_by_provider)
        return wire.SetProviderStateResponse(provider=self._message(name, held))

    async def ListWorkers(self, request: wire.ListWorkersRequest, context: Context) -> wire.ListWorkersResponse:  # noqa: N802, ARG002 - the wire's
        """Return workers."""
        size = page_size(request.page_size, default=100, most=1000)
        tokens = PageTokens(request)
        place = tokens.decode(request.page_token)
        if place and not (place.isalnum() and place.startswith("w")):
            raise InvalidRequestError([Violation("page_token", "is not a token that this server gave out")])
        if request.provider:
            self._known(request.provider, field="provider")
        rows = await self._database.read(
            lambda tx: list_workers(
                tx, request.provider, include_gone=request.include_gone, after=place, limit=size + 1
            )
        )
        connected = self._sessions.connected()
        response = wire.ListWorkersResponse(
            workers=[worker_message(dict(row), connected=row["worker_id"] in connected) for row in rows[:size]]
        )
        if len(rows) > size:
            response.next_page_token = tokens.encode(rows[size - 1]["worker_id"])
        return response

    async def DrainWorker(self, request: wire.DrainWorkerRequest, context: Context) -> wire.DrainWorkerResponse:  # noqa: N802, ARG002 - the wire's
        """Let a worker take no new job; it goes when its current one has ended."""
        worker_id = require("worker_id", request.worker_id)
        row = await self._database.write(lambda tx: drain_worker(tx, worker_id))
        if row is None:
            raise NotFoundError("worker", worker_id)
        session = self._sessions.get(worker_id)
        drain = worker_pb2.ConnectResponse(drain=worker_pb2.DrainRequest(reason="an operator asked for it"))
        if session is not None:
            session.send(drain)
        if row["attempt_uid"] is None:
            self._scheduler.fleet.remove_soon(worker_id, "Drained", leave_time=True, idle=True)
        live = self._attempts.live.of_worker(worker_id)
        message = {**row, "job_id": live.job_id if live is not None else ""}
        return wire.DrainWorkerResponse(worker=worker_message(message, connected=session is not None))

    def _known(self, name: str, field: str = "name") -> str:
        require(field, name, most=63)
        if name not in self._scheduler.fleet.providers:
            raise NotFoundError("provider", name)
        return name

    def _message(self, name: str, held: dict[str, int]) -> wire.Provider:
        fleet = self._scheduler.fleet
        provider, health = fleet.providers[name], fleet.health[name]
        offers = provider.capabilities()
        most = offers.max_resources
        capabilities = wire.Capabilities(
            max_resources=types_wire.Resources(
                cpu_millis=most.cpu_millis,
                memory_bytes=most.memory_bytes,
                disk_bytes=most.disk_bytes,
                gpu_count=most.gpu_count,
                gpu_type=most.gpu_type,
            ),
            max_workers=offers.max_workers,
            images=offers.images,
            isolation=offers.isolation,
            resource_limits=offers.resource_limits,
            cost_per_hour=offers.cost_per_hour,
            regions=offers.regions,
            labels=offers.labels,
            image_user=offers.image_user,
        )
        capabilities.typical_startup.FromTimedelta(dt.timedelta(seconds=offers.typical_startup))
        return wire.Provider(
            name=name,
            kind=provider.kind,
            state=wire.ProviderState.ValueType(int(self._scheduler.states[name])),
            healthy=health.healthy,
            health_message=_health_text(health),
            capabilities=capabilities,
            workers=held.get(name, 0),
        )


def _health_text(health: Health) -> str:
    message = f"degraded: {health.message}" if health.degraded else health.message
    return "; ".join(part for part in (message, health.details) if part)
