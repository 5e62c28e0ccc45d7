"""Looks at what the cluster has, from time to time, as far as the server's rights go."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from hodei_providers.contract import ProviderError
from hodei_providers.kubernetes import capacity
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.capacity import Amounts, Cluster
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import ForbiddenError, NotThereError
from hodei_providers.kubernetes.listing import list_kept
from hodei_providers.kubernetes.manifests import QUOTA
from hodei_providers.kubernetes.paths import EVERYWHERE

NODES = "/api/v1/nodes"
USAGE = "/apis/metrics.k8s.io/v1beta1/nodes"
#: Seconds for each pod of a cluster until it is looked at again: a look takes some twentieth of that of a processor.
REST_SECONDS = 0.005

T = TypeVar("T")
Manifest = Mapping[str, Any]


class Survey:
    """The last look at a cluster.

    :param own: returns the pods of this installation's workers, as the watch has them.
    :ivar cluster: what was seen.
    :ivar done: whether anything was.
    """

    def __init__(self, api: Api, config: KubernetesConfig, own: Callable[[], Iterable[Manifest]]) -> None:
        self.cluster = Cluster()
        self.done = False
        self._api = api
        self._config = config
        self._own = own
        self._gpus = tuple(config.gpu_resources.values())
        self._rests_until = 0.0

    async def keep_current(self) -> None:
        """Look again, unless the cluster has so many pods that they were counted not long enough ago.

        :raise ProviderError: the cluster can't be asked.
        """
        if time.monotonic() >= self._rests_until:
            await self.look()

    async def look(self) -> None:
        """Look again.

        :raise ProviderError: the cluster can't be asked.
        """
        notes: list[str] = []
        own = [pod for pod in self._own() if capacity.is_there(pod)]
        nodes = await self._items(NODES, "what nodes have", notes, self._take_of)
        taking = dict(each for each in nodes or [] if each is not None)
        allocatable = capacity.add(*taking.values()) if taking or nodes is None else capacity.nothing()
        uids = {pod["metadata"]["uid"] for pod in own}

        def count(pod: Manifest) -> tuple[Amounts, Amounts]:
            """Return what a pod asks of the nodes that take workers, and what its job asked if it is one of ours."""
            if pod["spec"].get("nodeName") not in taking:
                return {}, {}
            asked = capacity.asked_of(pod, self._gpus) if capacity.is_there(pod) else {}
            # What a worker's pod asks beyond what its job asked is known here alone.
            return asked, capacity.job_of(pod, self._config) if pod["metadata"]["uid"] in uids else {}

        everybody = await self._items(EVERYWHERE, "what others' pods ask", notes, count) if nodes is not None else None
        placed = [count(pod) for pod in own] if everybody is None else everybody
        self._rests_until = time.monotonic() + REST_SECONDS * len(placed)
        asked = capacity.add(*(one for one, _ in placed))
        jobs = [job for _, job in placed]
        bounds = [capacity.add(capacity.subtract(allocatable, asked), *jobs)] if nodes is not None else []
        self.cluster = Cluster(
            nodes=(len(taking), len(nodes or [])),
            allocatable=allocatable,
            asked=asked if everybody is not None else None,
            used=await self._used(taking.keys(), notes) if nodes is not None else None,
            total=capacity.as_resources(*bounds, *await self._quota(own, notes)),
            notes=tuple(notes),
        )
        self.done = True

    def _take_of(self, node: Manifest) -> tuple[str, Amounts] | None:
        """Return what a node that takes workers is called, and what it has; None for one that takes none."""
        if not capacity.takes_workers(node, self._config):
            return None
        # It may be ready a moment before it tells what it has.
        return node["metadata"]["name"], capacity.amounts(node["status"].get("allocatable") or {}, self._gpus)

    async def _quota(self, own: Iterable[Manifest], notes: list[str]) -> Sequence[Mapping[str, int]]:
        """Return what the quota of the one namespace leaves, beside the workers there."""
        if self._config.dynamic_namespaces:
            return ()  # each tenant has its own
        try:
            quota = await self._api.get(f"/api/v1/namespaces/{self._config.namespace}/resourcequotas/{QUOTA}")
        except NotThereError:
            return ()
        except ForbiddenError as error:
            notes.append(f"what the quota leaves is not known: {error}")
            return ()
        left = capacity.left_by_quota(quota, self._gpus)
        jobs = capacity.add(*(capacity.job_of(pod, self._config) for pod in own))
        return [{name: value + jobs.get(name, 0) for name, value in left.items()}]

    async def _used(self, names: Container[str], notes: list[str]) -> Mapping[str, int] | None:
        def use_of(node: Manifest) -> Amounts:
            return capacity.amounts(node["usage"]) if node["metadata"]["name"] in names else {}

        measured = await self._items(USAGE, "what is in use", notes, use_of)
        return None if measured is None else capacity.add(*measured)

    async def _items(self, path: str, what: str, notes: list[str], keep: Callable[[Manifest], T]) -> Sequence[T] | None:
        """Return what is to be kept of a whole list; None, and a note, where it can't be read or nobody answers."""
        query = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"} if path == EVERYWHERE else {}
        try:
            return (await list_kept(self._api, path, keep, **query))[0]
        except ProviderError as error:
            notes.append(f"{what} is not known: {error}")
            return None
