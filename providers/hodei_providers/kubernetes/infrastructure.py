"""Makes sure that a namespace has what workers need, and says what it may not make."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hodei.address import Address
from hodei_providers.contract import LaunchRejectedError, ProviderError, ProviderUnavailableError
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import AlreadyThereError, ForbiddenError, NotThereError
from hodei_providers.kubernetes.manifests import (
    make_namespace_parts,
    make_network_policy,
    make_pull_secret,
    manifests_command,
)
from hodei_providers.kubernetes.network import Place, find_place
from hodei_providers.registry import ProviderSetupError

#: Seconds after which what somebody may have deleted or edited is looked at again, and what could not be made.
REPAIR_SECONDS, PROBLEM_SECONDS = 300.0, 30.0
_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Secret": "/api/v1/namespaces/{}/secrets",
}


class Infrastructure:
    """The namespaces of one cluster.

    :ivar problems: by namespace, what is missing and could not be made, a line each; empty when all is there.
    """

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self.problems: dict[str, Sequence[str]] = {}
        self._api = api
        self._config = config
        self._server: Address | None = None
        self._looked_at: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: The versions of the pull secrets that were copied last, by name.
        self._copied: dict[str, str] = {}

    def listening(self, server: Address) -> None:
        """Take note of where workers connect, for the network policy; until then the one that is there is left alone.

        What another server, or the one before this, has made is right for its workers, which run on.
        """
        self._server = server
        self._looked_at.clear()

    async def ensure(self, namespace: str, tenant: str = "", *, again: bool = False) -> None:
        """Make what a namespace lacks, by server-side apply: twice, or by two servers at once, is fine.

        What the server has no right to make is noted in `problems`, unless it is there already.

        :param again: look even if that was done a moment ago.
        :param tenant: whose namespace it is; it gets copies of the pull secrets.
        :raise ProviderError: the cluster can't be reached, or the namespace is somebody else's.
        """
        if not self._config.ensure:
            return
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            if not again and not self._is_due(namespace):
                return
            if tenant:
                await self._refuse_foreign(namespace)
            identity = self._config.server_identity or await self._who_am_i()
            server, unknown = await self._find_server()
            problems: list[str] = []
            for part in await self._parts(namespace, identity, server, tenant):
                problems += await self._apply(part, namespace)
            if tenant:
                problems += await self._copy_pull_secrets([namespace])
            if problems:
                command = manifests_command(self._config, identity, self._server, tenant)
                problems.append(f"an administrator can apply what `{command}` prints, or set HODEI_K8S_ENSURE=false")
            if unknown:
                problems += [unknown, *await self._shut(namespace)]
            self.problems[namespace] = problems
            self._looked_at[namespace] = time.monotonic()

    def _is_due(self, namespace: str) -> bool:
        """Whether a namespace is to be looked at: one with problems soon, as an administrator may have settled them."""
        before = self._looked_at.get(namespace)
        wait = PROBLEM_SECONDS if self.problems.get(namespace) else REPAIR_SECONDS
        return before is None or time.monotonic() - before >= wait

    async def _find_server(self) -> tuple[Place | None, str]:
        """Return where the server is, and why that is not known; each time anew, as names may lead elsewhere."""
        if self._server is None:
            return None, ""
        try:
            return await asyncio.to_thread(find_place, self._config, self._server), ""
        except ProviderSetupError as error:
            return None, str(error)

    async def _shut(self, namespace: str) -> Sequence[str]:
        """Let workers reach no server, unless there is a policy: of one whose name could be looked up before."""
        path = _PATHS["NetworkPolicy"].format(namespace)
        try:
            await self._api.create(path, make_network_policy(namespace, self._config, None))
        except AlreadyThereError:
            return []
        except (ForbiddenError, NotThereError) as error:
            return [f"NetworkPolicy: {error}"]
        return []

    async def keep_current(self, tenants: Mapping[str, str]) -> None:
        """Repair tenants' namespaces from time to time, and carry changes of the pull secrets there.

        One that can't be seen to holds up no other; it is looked at again at the next turn, and told in `problems`.

        :param tenants: of each namespace; of others nothing is told any more.
        :raise ProviderError: the pull secrets can't be read.
        """
        self.problems = {namespace: lines for namespace, lines in self.problems.items() if namespace in tenants}
        spaces = [namespace for namespace, tenant in tenants.items() if tenant]
        if not self._config.ensure or not spaces:
            return
        before = dict(self._copied)
        for namespace in spaces:
            with self._told_of(namespace):
                await self.ensure(namespace, tenants[namespace])
        for name in self._config.image_pull_secrets:
            with contextlib.suppress(ForbiddenError, NotThereError):
                source = await self._api.get(f"{_PATHS['Secret'].format(self._config.namespace)}/{name}")
                if before.get(name) != source["metadata"]["resourceVersion"]:
                    for namespace in spaces:
                        with self._told_of(namespace):
                            await self._copy_pull_secrets([namespace])

    @contextlib.contextmanager
    def _told_of(self, namespace: str) -> Iterator[None]:
        """Note a failure among a namespace's problems, and have all of it looked at again soon."""
        try:
            yield
        except ProviderError as error:
            self._looked_at.pop(namespace, None)
            self.problems[namespace] = [f"namespace {namespace} can't be seen to: {error}"]

    async def _copy_pull_secrets(self, namespaces: Sequence[str]) -> Sequence[str]:
        """Copy the pull secrets; return what could not be copied, a line each."""
        problems: list[str] = []
        for name in self._config.image_pull_secrets:
            try:
                source = await self._api.get(f"{_PATHS['Secret'].format(self._config.namespace)}/{name}")
            except (ForbiddenError, NotThereError) as error:
                problems.append(f"Secret {name}: {error}")
                continue
            self._copied[name] = source["metadata"]["resourceVersion"]
            for namespace in namespaces:
                problems += await self._apply(make_pull_secret(source, namespace), namespace)
        return problems

    async def _refuse_foreign(self, namespace: str) -> None:
        """Refuse a namespace that is there and that nobody has given to Hodei."""
        try:
            found = await self._api.get(f"{_PATHS['Namespace']}/{namespace}")
        except (NotThereError, ForbiddenError):
            return
        if (found["metadata"].get("labels") or {}).get(names.MANAGED) != "true":
            raise ProviderUnavailableError(
                f"namespace {namespace} is there and is not Hodei's: label it {names.MANAGED}=true, or choose another "
                "HODEI_K8S_NAMESPACE_PREFIX"
            )

    async def _who_am_i(self) -> str:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self._api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        return str(answer["status"]["userInfo"]["username"])

    async def _parts(
        self, namespace: str, identity: str, server: Place | None, tenant: str
    ) -> Sequence[Mapping[str, Any]]:
        """Return what a namespace needs; the Role is made, where it may be, to know which one is to be bound."""
        make = functools.partial(make_namespace_parts, namespace, self._config, identity, server, tenant=tenant)
        parts = make()
        role = next(part for part in parts if part["kind"] == "Role")
        await self._apply(parts[0], namespace)
        try:
            await self._api.apply(f"{_PATHS['Role'].format(namespace)}/{role['metadata']['name']}", role)
        except (ForbiddenError, NotThereError):
            # Nobody may give rights that they lack; the ClusterRole of an administrator may be bound instead.
            return make(role="ClusterRole")
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
