"""Calls about providers and their workers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from hodei.v1 import provider_pb2
from hodei_client.calls import Calls


class ProviderCalls(Calls):
    """Tells of providers and workers, and takes them out of use."""

    async def providers(self) -> Sequence[provider_pb2.Provider]:
        """Return every provider."""
        response: provider_pb2.ListProvidersResponse = await self._call(
            self._connected.providers.ListProviders, provider_pb2.ListProvidersRequest()
        )
        return list(response.providers)

    async def provider(self, name: str) -> provider_pb2.Provider:
        """Return one provider."""
        response: provider_pb2.GetProviderResponse = await self._call(
            self._connected.providers.GetProvider, provider_pb2.GetProviderRequest(name=name)
        )
        return response.provider

    async def set_provider_state(self, name: str, state: provider_pb2.ProviderState.ValueType) -> provider_pb2.Provider:
        """Enable, drain or disable a provider."""
        response: provider_pb2.SetProviderStateResponse = await self._call(
            self._connected.providers.SetProviderState, provider_pb2.SetProviderStateRequest(name=name, state=state)
        )
        return response.provider

    async def workers(self, *, provider: str = "", include_gone: bool = False) -> AsyncIterator[provider_pb2.Worker]:
        """Yield workers, page by page."""
        page = provider_pb2.ListWorkersRequest(provider=provider, include_gone=include_gone)
        pages: AsyncGenerator[provider_pb2.ListWorkersResponse, None] = self._pages(
            self._connected.providers.ListWorkers, page
        )
        async with contextlib.aclosing(pages):
            async for response in pages:
                for worker in response.workers:
                    yield worker

    async def drain_worker(self, worker_id: str) -> provider_pb2.Worker:
        """Let a worker take no further job."""
        response: provider_pb2.DrainWorkerResponse = await self._call(
            self._connected.providers.DrainWorker, provider_pb2.DrainWorkerRequest(worker_id=worker_id)
        )
        return response.worker
