"""Looks at what the cluster has, from time to time, as far as the server's rights go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hodei_providers.contract import ProviderError
from hodei_providers.kubernetes import capacity
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.capacity import Cluster
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import ForbiddenError, NotThereError
from hodei_providers.kubernetes.listing import list_all
from hodei_providers.kubernetes.manifests import QUOTA
from hodei_providers.kubernetes.paths import EVERYWHERE

NODES = "/api/v1/nodes"
USAGE = "/apis/metrics.k8s.io/v1beta1/nodes"


class Survey:
    """The last look at a cluster.

    :param own: returns the pods of this installation's workers, as the watch has them.
    :ivar cluster: what was seen.
    :ivar done: whether anything was.
    """

    def __init__(self, api: Api, config: KubernetesConfig, own: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self.cluster = Cluster()
        self.done = False
        self._api = api
        self._config = config
        self._own = own
        self._gpus = tuple(config.gpu_resources.values())

    async def look(self) -> None:
        """Look again.

        :raise ProviderError: the cluster can't be asked.
        """
        notes: list[str] = []
        own = [pod for pod in self._own() if capacity.is_there(pod)]
        nodes = await self._items(NODES, "what nodes have", notes)
        taking = [node for node in nodes or [] if capacity.takes_workers(node, self._config)]
        names = {node["metadata"]["name"] for node in taking}
        # A node may be ready a moment before it tells what it has.
        told = [node["status"].get("allocatable") or {} for node in taking]
        allocatable = capacity.add(*(capacity.amounts(each, self._gpus) for each in told))
        if nodes is not None and not taking:
            allocatable = capacity.nothing()
        everybody = await self._items(EVERYWHERE, "what others' pods ask", notes) if nodes is not None else None
        placed = [pod for pod in (own if everybody is None else everybody) if pod["spec"].get("nodeName") in names]
        asked = capacity.add(*(capacity.asked_of(pod, self._gpus) for pod in placed if capacity.is_there(pod)))
        uids = {pod["metadata"]["uid"] for pod in own}
        # What a worker's pod asks beyond what its job asked is known here alone.
        jobs = [capacity.job_of(pod, self._config) for pod in placed if pod["metadata"]["uid"] in uids]
        bounds = [capacity.add(capacity.subtract(allocatable, asked), *jobs)] if nodes is not None else []
        self.cluster = Cluster(
            nodes=(len(taking), len(nodes or [])),
            allocatable=allocatable,
            asked=asked if everybody is not None else None,
            used=await self._used(names, notes) if nodes is not None else None,
            total=capacity.as_resources(*bounds, *await self._quota(own, notes)),
            notes=tuple(notes),
        )
        self.done = True

    async def _quota(self, own: Iterable[Mapping[str, Any]], notes: list[str]) -> Sequence[Mapping[str, int]]:
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

    async def _used(self, names: set[str], notes: list[str]) -> Mapping[str, int] | None:
        measured = await self._items(USAGE, "what is in use", notes)
        if measured is None:
            return None
        return capacity.add(
            *(capacity.amounts(each["usage"]) for each in measured if each["metadata"]["name"] in names)
        )

    async def _items(self, path: str, what: str, notes: list[str]) -> Sequence[Mapping[str, Any]] | None:
        """Return a whole list; None, and a note, where it may not be read or nobody answers for it."""
        query = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"} if path == EVERYWHERE else {}
        try:
            return (await list_all(self._api, path, **query))[0]
        except ProviderError as error:
            notes.append(f"{what} is not known: {error}")
            return None
