"""The Kubernetes provider on a real cluster: what every provider does."""

from __future__ import annotations

from typing import Any

import pytest

from hodei_providers.contract import LaunchRequest, Provider
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.testing import EndWorker, MakeProvider, ProviderContract


class TestKubernetesProvider(ProviderContract):
    @pytest.fixture
    def make_provider(self, played: KubernetesConfig) -> MakeProvider:
        """Return providers of one namespace."""
        from hodei_providers.kubernetes.provider import KubernetesProvider  # noqa: PLC0415 - needs the SDK

        return lambda: KubernetesProvider(config=played)

    @pytest.fixture
    def end_worker(self, orders: Any) -> EndWorker:
        """Have a worker exit."""

        async def end(_: Provider, request: LaunchRequest, code: int) -> None:
            orders.code(request.worker_id).set_result(code)

        return end
