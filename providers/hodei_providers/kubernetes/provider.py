"""The Kubernetes provider: workers are pods."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hodei.address import Address, parse_address
from hodei_providers.contract import (
    Capabilities,
    Description,
    Handle,
    Health,
    LaunchRequest,
    Provider,
    ProviderError,
    Purpose,
    Route,
    WorkerPhase,
)
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.diagnosis import read_events, read_eviction, read_output
from hodei_providers.kubernetes.ends import Ends
from hodei_providers.kubernetes.errors import NotThereError
from hodei_providers.kubernetes.figures import Figures
from hodei_providers.kubernetes.health import check_health
from hodei_providers.kubernetes.image_user import Readings
from hodei_providers.kubernetes.images import Images
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.launches import Launches
from hodei_providers.kubernetes.metadata import refused_names
from hodei_providers.kubernetes.nodes import Nodes
from hodei_providers.kubernetes.paths import pod_path
from hodei_providers.kubernetes.pod import image_user
from hodei_providers.kubernetes.removal import remove
from hodei_providers.kubernetes.route import find_route
from hodei_providers.kubernetes.sharing import check_sharing
from hodei_providers.kubernetes.spaces import Spaces
from hodei_providers.kubernetes.state import handle_of, made_by, read_pod, worker_id_of
from hodei_providers.kubernetes.survey import Survey
from hodei_providers.kubernetes.unowned import Unowned
from hodei_providers.kubernetes.watching import PodWatch, Troubles
from hodei_providers.metrics import Metric
from hodei_providers.registry import ProviderSetupError

_log = logging.getLogger("hodei.providers.kubernetes")

#: Diagnoses that are kept of pods that were removed before anybody has asked.
KEPT_DIAGNOSES = 1000


class KubernetesProvider(Provider):
    """Runs each worker as a pod of a cluster.

    :param data_dir: where names of secrets are kept until a pod owns them; see `hodei_providers.kubernetes.unowned`.
    :param config: by default as Kubernetes' own tools find a cluster, and with Hodei's defaults.
    """

    kind = "kubernetes"

    def __init__(
        self,
        name: str = "kubernetes",
        *,
        data_dir: Path | None = None,
        config: KubernetesConfig | None = None,
    ) -> None:
        self.name = name
        self.config = config or KubernetesConfig()
        self._api = Api(self.config)
        self._infrastructure = Infrastructure(self._api, self.config)
        self._troubles = Troubles(self.config.image_pull_grace)
        self._nodes = Nodes(self._api, self.config.lost_node_timeout)
        self._ends = Ends(self.config.lost_node_timeout)
        self._route: Route | None = None
        self._reports: dict[str, Callable[[str], None]] = {}
        #: Of pods that were removed after their time, by worker id.
        self._diagnoses: dict[str, Sequence[str]] = {}
        self._unowned = Unowned(data_dir / "unowned" if data_dir is not None else None)
        self._spaces = Spaces(self._api, self.config)
        self._figures = Figures()
        self._survey = Survey(self._api, self.config, self._figures.pods.values)
        self._upkeep: asyncio.Task[None] | None = None
        images = Images()
        self._launches = Launches(
            self._api, self._infrastructure, self.config, name, unowned=self._unowned, images=images
        )
        self._readings = Readings(self.config, self._launches, images, self._report)
        self._capabilities = Capabilities(
            max_workers=self.config.max_pods,
            images=True,
            isolation=True,
            resource_limits=True,
            architectures=tuple(filter(None, [self.config.node_selector.get("kubernetes.io/arch")])),
            cost_per_hour=self.config.cost_per_hour,
            typical_startup=15.0,
            regions=self.config.regions,
            labels=self.config.labels,
            image_user=image_user(self.config),
            one_tenant=self.config.dynamic_namespaces,
            gpu_types=tuple(sorted(set(self.config.gpu_resources) - {"default"})),
        )

    async def __aenter__(self) -> Self:
        """Find the cluster and make the namespace. A cluster that does not answer is waited for later.

        :raise ProviderSetupError: there is no kubeconfig that can be used, or no way from pods to here.
        """
        await self._api.__aenter__()
        self._spaces.left(await self._unowned.open())
        self._route = await asyncio.to_thread(find_route, self.config, self._api.address)
        if self._route.port:
            self._infrastructure.listening(Address(self._route.host, self._route.port))
        with contextlib.suppress(ProviderError):
            await self._infrastructure.ensure(self.config.namespace)
        self._upkeep = asyncio.create_task(self._keep_up(), name=f"upkeep of {self.name}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections; the workers go on."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        self._readings.close()
        await self._launches.close()
        await self._api.__aexit__(exc_type, exc, traceback)

    async def _keep_up(self) -> None:
        """See to tenants' namespaces, to what the process before has left and what there is, from time to time."""
        while True:
            for see_to in (self._see_to_spaces, self._launches.sweep, self._survey.keep_current):
                try:
                    await see_to()
                except ProviderError:
                    pass  # health tells it
                except Exception:  # noqa: BLE001 - the rest, and the next turn, are seen to all the same
                    _log.exception("upkeep of provider %s failed; it goes on", self.name)
            await asyncio.sleep(self.config.resync)

    async def _see_to_spaces(self) -> None:
        await self._spaces.refresh()
        await self._infrastructure.keep_current(dict(self._spaces.known))

    def check_orphan_after(self, seconds: float) -> None:
        """Refuse to count a lost node's workers as gone before they have ended by themselves; see the contract."""
        timeout = self.config.lost_node_timeout
        if timeout < seconds:
            raise ProviderSetupError(
                f"provider {self.name}: HODEI_K8S_LOST_NODE_TIMEOUT is {timeout:g} s, less than HODEI_ORPHAN_AFTER, "
                f"{seconds:g} s: a job would run again while its worker on a lost node may still run it"
            )

    async def check_beside(self, others: Sequence[Provider]) -> None:
        """Refuse to make a namespace in another way than those that have it, too; see the contract, and `sharing`."""
        beside = {each.name: each.config for each in others if isinstance(each, KubernetesProvider)}
        await check_sharing(self.name, self.config, beside)

    def capabilities(self) -> Capabilities:
        """Return what the configuration says."""
        return self._capabilities

    def refused_names(self, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Mapping[str, str]:
        """Return which of a job's own labels and annotations can't be on its pod; see the contract."""
        return refused_names(labels, annotations, self.config)

    def route(self) -> Route | None:
        """Return how pods reach the server; see `hodei_providers.kubernetes.route`."""
        return self._route

    def listening(self, address: str) -> None:
        """Take note of where workers connect, for the network policy."""
        self._infrastructure.listening(parse_address(address))

    async def health(self) -> Health:
        """Tell whether pods can be listed and made; see `hodei_providers.kubernetes.health`."""
        if not self._survey.done:
            with contextlib.suppress(ProviderError):
                await self._survey.look()
        return await check_health(
            self.name,
            self._api,
            self.config,
            self._infrastructure,
            spaces=self._spaces,
            cluster=self._survey.cluster,
        )

    def metrics(self) -> Sequence[Metric]:
        """Return figures of the pods, the API's calls and the nodes; see docs/metrics.md."""
        return [*self._figures.families(self._api.calls, self._survey.cluster)]

    async def launch(self, request: LaunchRequest) -> Handle:
        """Start a worker; see the contract."""
        self._reports[request.worker_id] = request.report
        namespace = self._spaces.of(request.worker_id, request.labels.get("tenant", ""))
        return await self._launches.launch(request, namespace)

    async def given(self, handle: Handle, purpose: Purpose) -> None:
        """Give a pod the names of the job that its worker was given."""
        with contextlib.suppress(NotThereError):
            await self._launches.name_job(handle.worker_id, await self._spaces.find(handle), purpose)

    async def registered(self, handle: Handle) -> None:
        """Remove the secret with the one-time token."""
        await self._launches.burnt(handle.worker_id, await self._spaces.find(handle))

    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is; see the contract."""
        try:
            pod = await self._api.get(await self._path(handle))
        except NotThereError:
            if handle.worker_id in self._launches:
                return Description(handle, WorkerPhase.PENDING, message="is being launched")
            unseen = not self._ends.is_confirmed(handle.worker_id)
            return Description(handle, WorkerPhase.MISSING, message="there is no pod of it", unconfirmed=unseen)
        return await self._nodes.judge(pod, self._troubles.judge(self._readings.read(pod)))

    async def _path(self, handle: Handle) -> str:
        return pod_path(await self._spaces.find(handle), handle.worker_id)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """End a worker and all it started; see the contract, and `hodei_providers.kubernetes.removal`."""
        self._figures.removing(handle.worker_id)
        namespace = await self._spaces.find(handle)
        async with self._launches.removal(handle.worker_id):
            if not await remove(self._api, self._nodes, self._ends, handle.worker_id, namespace, grace=grace):
                return False
        for each in (self._readings, self._troubles, self._nodes, self._ends):
            each.forget(handle.worker_id)
        self._reports.pop(handle.worker_id, None)
        self._diagnoses.pop(handle.worker_id, None)
        await self._launches.remove_secret(handle.worker_id, namespace)
        self._spaces.forget(handle.worker_id)
        return True

    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return the installation's workers here, running or not."""
        pods = await self._spaces.pods(names.selector(installation_id))
        own = [pod for pod in pods if made_by(pod, self.name) and worker_id_of(pod) and self._spaces.holds(pod)]
        return [handle_of(pod) for pod in own]

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield workers that have ended, are gone, or will never start."""

        def make_watch(path: str) -> PodWatch:
            return PodWatch(
                self._api,
                path,
                names.selector(installation_id),
                self._troubles,
                self._figures,
                provider_name=self.name,
                holds=self._spaces.holds,
                ends=self._ends,
                readings=self._readings,
                resync=self._spaces.resync,
                listed=self._sweep,
                waiting=self._report,
            )

        async for description in self._spaces.descriptions(make_watch):
            yield description

    def _report(self, description: Description) -> None:
        """Tell whoever launched a worker why it does not start yet: the scheduler's or the runtime's own words."""
        report = self._reports.get(description.handle.worker_id)
        if report is not None:
            report(description.message)

    async def _sweep(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Delete pods that have ended and that nobody has removed since; what they said last is kept (L17)."""
        for pod in pods:
            finished_at = read_pod(pod).finished_at
            if not finished_at:
                continue
            age = time.time() - dt.datetime.fromisoformat(finished_at).timestamp()
            if age > self.config.ttl_seconds_after_finished:
                handle = handle_of(pod)
                self._diagnoses[handle.worker_id] = await self.diagnose(handle)
                while len(self._diagnoses) > KEPT_DIAGNOSES:
                    del self._diagnoses[next(iter(self._diagnoses))]
                # One that can't be removed is tried again after the next list: all other pods are told of meanwhile.
                with contextlib.suppress(ProviderError):
                    await self._api.delete(await self._path(handle), uid=pod["metadata"]["uid"])

    async def why_ending(self, handle: Handle) -> str:
        """Return what the pod says, or the words of the kubelet that evicts it."""
        said = await read_eviction(self._api, await self._spaces.find(handle), handle.worker_id)
        return f"evicted by its node: {said}" if said else (await self.describe(handle)).message

    async def diagnose(self, handle: Handle) -> Sequence[str]:
        """Return a pod's state, its events and the last that was printed in it."""
        lines: list[str] = []
        with contextlib.suppress(ProviderError):
            description = await self.describe(handle)
            if description.phase is WorkerPhase.MISSING and handle.worker_id in self._diagnoses:
                return self._diagnoses[handle.worker_id]
            lines.append(f"pod {names.worker_name(handle.worker_id)}: {description.message}")
            namespace = await self._spaces.find(handle)
            lines += await read_events(self._api, namespace, handle.worker_id)
            lines += await read_output(self._api, namespace, handle.worker_id)
        return lines
