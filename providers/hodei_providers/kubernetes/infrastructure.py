"""Makes sure that a namespace has what workers need, and says what it may not make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hodei_providers.contract import LaunchRejectedError, ProviderError
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import ForbiddenError, NotThereError
from hodei_providers.kubernetes.manifests import make_namespace_parts

#: Seconds after which what somebody may have deleted or edited is looked at again.
REPAIR_SECONDS = 300.0
_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


class Infrastructure:
    """The namespaces of one cluster.

    :ivar problems: by namespace, what is missing and could not be made, a line each; empty when all is there.
    """

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self.problems: dict[str, Sequence[str]] = {}
        self._api = api
        self._config = config
        self._looked_at: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, namespace: str, tenant: str = "", *, again: bool = False) -> None:
        """Make what a namespace lacks, by server-side apply: twice, or by two servers at once, is fine.

        What the server has no right to make is noted in `problems`, unless it is there already.

        :param again: look even if that was done a moment ago.
        :raise ProviderError: the cluster can't be reached.
        """
        if not self._config.ensure:
            return
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            if not again and time.monotonic() - self._looked_at.get(namespace, -REPAIR_SECONDS) < REPAIR_SECONDS:
                return
            identity = self._config.server_identity or await self._who_am_i()
            problems: list[str] = []
            for part in await self._parts(namespace, identity, tenant):
                problems += await self._apply(part, namespace)
            if problems:
                problems.append(
                    "an administrator can apply what 'hodei k8s manifests' prints, or set HODEI_K8S_ENSURE=false"
                )
            self.problems[namespace] = problems
            self._looked_at[namespace] = time.monotonic()

    async def _who_am_i(self) -> str:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self._api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        return str(answer["status"]["userInfo"]["username"])

    async def _parts(self, namespace: str, identity: str, tenant: str) -> Sequence[Mapping[str, Any]]:
        """Return what a namespace needs; the Role is made, where it may be, to know which one is to be bound."""
        parts = make_namespace_parts(namespace, self._config, identity, tenant=tenant)
        role = next(part for part in parts if part["kind"] == "Role")
        await self._apply(parts[0], namespace)
        try:
            await self._api.apply(f"{_PATHS['Role'].format(namespace)}/{role['metadata']['name']}", role)
        except (ForbiddenError, NotThereError):
            # Nobody may give rights that they lack; the ClusterRole of an administrator may be bound instead.
            return make_namespace_parts(namespace, self._config, identity, tenant=tenant, role="ClusterRole")
        return parts

    async def _apply(self, part: Mapping[str, Any], namespace: str) -> Sequence[str]:
        kind, name = part["kind"], part["metadata"]["name"]
        path = f"{_PATHS[kind].format(namespace)}/{name}"
        try:
            await self._api.apply(path, part)
        except ForbiddenError as error:
            return await self._look(path, f"{kind} {name}: {error}")
        except LaunchRejectedError as error:
            # What a binding binds can't be changed: the one that is there stands.
            return [] if kind == "RoleBinding" else [f"{kind} {name}: {error}"]
        except NotThereError as error:
            return [f"{kind} {name}: {error}"]
        return []

    async def _look(self, path: str, refused: str) -> Sequence[str]:
        """Return what is missing: nothing, where the object is there without our doing."""
        try:
            await self._api.get(path)
        except ProviderError as error:
            return [refused, str(error)]
        return []
