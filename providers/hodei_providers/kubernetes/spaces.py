"""Which namespaces workers are in: one for all, or one for each tenant, and how all of them are looked at at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from hodei_providers.contract import Description, Handle, ProviderUnavailableError
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import ForbiddenError
from hodei_providers.kubernetes.listing import list_all
from hodei_providers.kubernetes.paths import EVERYWHERE, pods_path
from hodei_providers.kubernetes.state import handle_of
from hodei_providers.kubernetes.watching import PodWatch

#: Seconds after which the server's rights are looked at again: an administrator may have given more.
RIGHTS_SECONDS = 300.0
#: What the watches of namespaces have told and nobody has taken yet; one that has more to tell waits.
NEWS = 100
#: Calls of a namespace's watch from one full list to the next, and the part of the API's rate that all watches take.
CALLS, SHARE = 2, 0.25


class Spaces:
    """The namespaces of one cluster.

    :ivar known: the tenant of each; none of the configured one.
    :ivar problem: why there may be more than are known; empty where that can't be.
    """

    def __init__(self, api: Api, config: KubernetesConfig) -> None:
        self.known: dict[str, str] = {config.namespace: ""}
        self.problem = ""
        self._api = api
        self._config = config
        self._changed = asyncio.Event()
        self._watches = 1
        self._everywhere: tuple[bool, float] | None = None
        #: Where workers were launched, by their ids, until they are gone; there may be a secret of one, and no pod yet.
        self._of_worker: dict[str, str] = {}

    def of(self, worker_id: str, tenant: str) -> str:
        """Return the namespace for a worker that is to be launched for a tenant.

        :raise ProviderUnavailableError: as many tenants have one as may have.
        """
        namespace = self._config.namespace
        if self._config.dynamic_namespaces and tenant:
            namespace = f"{self._config.namespace_prefix}{tenant}"
            if namespace not in self.known and len(self.known) > self._config.max_namespaces:
                raise ProviderUnavailableError(
                    f"{self._config.max_namespaces} tenants have a namespace already (HODEI_K8S_MAX_NAMESPACES)"
                )
            self._add(namespace, tenant)
        self._of_worker[worker_id] = namespace
        return namespace

    def holds(self, pod: Mapping[str, Any]) -> bool:
        """Whether a pod is where its worker was launched: a copy of it in another namespace is no worker's.

        Of one that a process before this has launched, its tenant tells where that is; it may be where all were before
        tenants had namespaces of their own.
        """
        handle = handle_of(pod)
        namespace = handle.data["namespace"]
        launched = self._of_worker.get(handle.worker_id)
        if launched is not None:
            return namespace == launched
        tenant = (pod["metadata"].get("labels") or {}).get(names.TENANT, "")
        return namespace in {self._config.namespace, f"{self._config.namespace_prefix}{tenant}"}

    def left(self, namespaces: Mapping[str, str]) -> None:
        """Take note of where the process before this one has begun to launch workers, by their ids."""
        self._of_worker.update(namespaces)

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._of_worker.pop(worker_id, None)

    def _add(self, namespace: str, tenant: str) -> None:
        if namespace not in self.known:
            self.known[namespace] = tenant
            self._changed.set()

    async def find(self, handle: Handle) -> str:
        """Return the namespace of a worker, by its handle, by memory, or by looking for its pod (W42).

        :raise ProviderError: the cluster can't be asked.
        """
        known = handle.data.get("namespace") or self._of_worker.get(handle.worker_id)
        if known or not self._config.dynamic_namespaces:
            return known or self._config.namespace
        selector = f"{names.MANAGED}=true,{names.WORKER_ID}={names.label_value(handle.worker_id)}"
        for pod in await self.pods(selector):
            if handle_of(pod).worker_id == handle.worker_id and self.holds(pod):
                return str(pod["metadata"]["namespace"])
        return self._config.namespace

    async def refresh(self) -> None:
        """Look for tenants' namespaces that others, or the process before, have made; forget those that are gone.

        One is kept as long as it has workers: it may be made again for them, or be about to be made.

        :raise ProviderError: the cluster can't be asked.
        """
        if not self._config.dynamic_namespaces:
            return
        try:
            selector = f"{names.MANAGED}=true,{names.TENANT}"
            found, _ = await list_all(self._api, "/api/v1/namespaces", labelSelector=selector)
        except ForbiddenError as error:
            self.problem = f"tenants' namespaces that were made before can't be found: {error}"
            return
        self.problem = ""
        for each in found:
            metadata = each["metadata"]
            if metadata["name"].startswith(self._config.namespace_prefix):
                self._add(metadata["name"], metadata["labels"][names.TENANT])
        if not self._config.ensure:
            return  # somebody else makes them, and may have given them no labels
        there = {self._config.namespace, *self._of_worker.values(), *(each["metadata"]["name"] for each in found)}
        for namespace in self.known.keys() - there:
            del self.known[namespace]
            self._changed.set()

    async def _paths(self) -> Sequence[str]:
        """Return the lists that all workers are in: one for the whole cluster where that may be read."""
        if not self._config.dynamic_namespaces:
            return [pods_path(self._config.namespace)]
        if await self.everywhere():
            return [EVERYWHERE]
        await self.refresh()
        return [pods_path(namespace) for namespace in self.known]

    async def everywhere(self) -> bool:
        """Whether the server may list the pods of the whole cluster.

        :raise ProviderError: the cluster can't be asked.
        """
        now = time.monotonic()
        if self._everywhere is None or now - self._everywhere[1] > RIGHTS_SECONDS:
            try:
                await self._api.get(EVERYWHERE, labelSelector=f"{names.MANAGED}=true", limit="1")
                self._everywhere = True, now
            except ForbiddenError:
                self._everywhere = False, now
        return self._everywhere[0]

    def resync(self) -> float:
        """Return the seconds from one full list of a namespace's pods to the next: longer, the more are watched."""
        return max(self._config.resync, self._watches * CALLS / (SHARE * self._config.api_rate))

    def _refused(self) -> None:
        """Note that the pods of the whole cluster may not be read, or not any more."""
        self._everywhere = False, time.monotonic()

    async def pods(self, selector: str) -> Sequence[Mapping[str, Any]]:
        """Return all pods of a selector, in whatever namespace.

        :raise ProviderError: the cluster can't be asked.
        """
        paths = await self._paths()
        try:
            return [pod for path in paths for pod in (await list_all(self._api, path, labelSelector=selector))[0]]
        except ForbiddenError:
            if paths != [EVERYWHERE]:
                raise
            self._refused()
            return await self.pods(selector)

    async def descriptions(self, make_watch: Callable[[str], PodWatch]) -> AsyncIterator[Description]:
        """Yield what the watches of all namespaces tell: one of the cluster, else one of each, never one of a pod.

        Where the right to the one of the cluster is taken away, or never was one to watch, it goes on with the others.

        :param make_watch: makes the watch of a path.
        :raise ProviderError: the cluster can't be asked which of these it is to be.
        """
        paths = await self._paths()
        if len(paths) == 1 and (not self._config.dynamic_namespaces or paths == [EVERYWHERE]):
            try:
                async for description in make_watch(paths[0]).descriptions():
                    yield description
            except ForbiddenError:
                self._refused()
                await self.refresh()
        news: asyncio.Queue[Description] = asyncio.Queue(NEWS)
        tasks: dict[str, asyncio.Task[Any]] = {}
        try:
            while True:
                self._watches = len(self.known)
                for namespace in self.known.keys() - tasks.keys():
                    watch = _pass_on(make_watch(pods_path(namespace)), news)
                    tasks[namespace] = asyncio.create_task(watch, name=f"watch {namespace}")
                for namespace in tasks.keys() - self.known.keys() - {"", "/"}:
                    tasks[namespace].cancel()
                if self._changed.is_set():
                    self._changed.clear()
                    continue
                for name, wait in (("", news.get), ("/", self._changed.wait)):
                    if name not in tasks:
                        tasks[name] = asyncio.create_task(wait())
                done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                for name in [name for name, task in tasks.items() if task in done]:
                    task = tasks.pop(name)
                    if not task.cancelled() and isinstance(task.result(), Description):
                        yield task.result()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _pass_on(watch: PodWatch, news: asyncio.Queue[Description]) -> None:
    async for description in watch.descriptions():
        await news.put(description)
