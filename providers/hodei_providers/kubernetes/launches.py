"""Launches: the secret with the one-time token, the pod, and that as the secret's owner; whoever dies between."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from hodei_providers.contract import Handle, LaunchRequest, ProviderError, ProviderUnavailableError, Purpose
from hodei_providers.faults import fault_point
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import AlreadyThereError, NotThereError
from hodei_providers.kubernetes.images import Images
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.metadata import make_job_patch, purpose_of
from hodei_providers.kubernetes.paths import pod_path, pods_path, secret_path, secrets_path
from hodei_providers.kubernetes.pod import Owner, as_fixed_user, make_pod, make_secret
from hodei_providers.kubernetes.removal import delete
from hodei_providers.kubernetes.state import handle_of
from hodei_providers.kubernetes.unowned import Unowned

#: Who made the fields that name a pod's job, for server-side apply: the next job's replace them.
JOB_FIELDS = "hodei-job"

Manifest = Mapping[str, Any]


class Launches:
    """Launches that are under way, and the secrets of workers.

    :param unowned: keeps the names of secrets until a pod owns them.
    :param images: knows which images run as their own user.
    """

    def __init__(
        self,
        api: Api,
        infrastructure: Infrastructure,
        config: KubernetesConfig,
        provider_name: str,
        *,
        unowned: Unowned,
        images: Images,
    ) -> None:
        self._api = api
        self._infrastructure = infrastructure
        self._config = config
        self._provider_name = provider_name
        self._unowned = unowned
        self._images = images
        self._tasks: dict[str, asyncio.Task[Handle]] = {}
        self._removals: collections.Counter[str] = collections.Counter()
        self._closing = False
        #: Workers whose secret is gone, as far as is known.
        self._without_secret: set[str] = set()

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._tasks

    def under_way(self) -> Collection[str]:
        """Return the workers that are being launched, or launched again."""
        return set(self._tasks)

    async def launch(self, request: LaunchRequest, namespace: str) -> Handle:
        """Launch a worker, or join its launch. Carried to its end even if the caller goes.

        What the API is making then would be found by nobody.
        """
        worker_id = request.worker_id
        task = self._tasks.get(worker_id)
        if task is None:
            task = self._begin(worker_id, self._launch(request, namespace))
        return await asyncio.shield(task)

    def _begin(self, worker_id: str, work: Coroutine[Any, Any, Handle]) -> asyncio.Task[Handle]:
        task = asyncio.create_task(work, name=f"launch {worker_id}")
        self._tasks[worker_id] = task

        def done(ended: asyncio.Task[Handle]) -> None:
            if self._tasks.get(worker_id) is ended:
                del self._tasks[worker_id]

        task.add_done_callback(done)
        return task

    async def annotate(self, pod: Manifest, annotations: Mapping[str, str]) -> None:
        """Give a pod annotations, if it is still there."""
        with contextlib.suppress(NotThereError):
            path = pod_path(pod["metadata"]["namespace"], handle_of(pod).worker_id)
            await self._api.merge(path, {"metadata": {"uid": pod["metadata"]["uid"], "annotations": annotations}})

    def replace(self, pod: Manifest, given_up: Callable[[], Any]) -> None:
        """Make a pod again that its kubelet does not start as its image's own user: in its place, as another user.

        :param given_up: called if there is none in its place in the end.
        """
        worker_id = handle_of(pod).worker_id
        if self._removals[worker_id]:
            given_up()
            return
        task = self._begin(worker_id, self._replace(pod, self._tasks.get(worker_id)))
        task.add_done_callback(lambda ended: given_up() if ended.cancelled() or ended.exception() else None)

    async def _replace(self, pod: Manifest, before: asyncio.Task[Handle] | None) -> Handle:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        worker_id, namespace, uid = handle_of(pod).worker_id, pod["metadata"]["namespace"], pod["metadata"]["uid"]
        path = pod_path(namespace, worker_id)
        there = await self._api.get(path)
        if there["metadata"]["uid"] != uid or there["metadata"].get("deletionTimestamp"):
            raise NotThereError("somebody else has removed the pod")
        # The secret must not go with the pod that owns it.
        await self._unowned.note(worker_id, namespace)
        with contextlib.suppress(NotThereError):
            await self._api.merge(secret_path(namespace, worker_id), {"metadata": {"ownerReferences": None}})
        while not await delete(self._api, path, grace=0, uid=uid):
            # A node may be slow, or lost: for how long that is waited for is up to who waits for the worker.
            if self._removals[worker_id] or self._closing:
                raise ProviderUnavailableError("the pod does not go")
        fault_point("kubernetes.pod_taken_back")
        made = await self._create_pod(worker_id, as_fixed_user(there))
        await self._own(worker_id, made)
        return handle_of(made)

    @contextlib.asynccontextmanager
    async def removal(self, worker_id: str) -> AsyncIterator[None]:
        """Have no pod made again while its worker is removed; what is under way ends first (W16)."""
        self._removals[worker_id] += 1
        try:
            await self.settle(worker_id)
            yield
        finally:
            self._removals[worker_id] -= 1
            self._removals += collections.Counter()  # without what is zero

    async def settle(self, worker_id: str) -> None:
        """Wait for a launch to end, if there is one."""
        task = self._tasks.get(worker_id)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Wait for all launches to end."""
        self._closing = True
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _launch(self, request: LaunchRequest, namespace: str) -> Handle:
        ca_file = self._config.server_ca
        try:
            ca_pem = await asyncio.to_thread(Path(ca_file).read_bytes) if ca_file else request.ca_pem
        except OSError as error:
            raise ProviderUnavailableError(f"HODEI_K8S_SERVER_CA: {ca_file} can't be read: {error.strerror}") from error
        own_user = self._images.own(request.image) is not False
        pod = make_pod(request, namespace, self._config, Owner(self._provider_name, ca_pem), own_user=own_user)
        secret = make_secret(request, namespace)
        tenant = request.labels.get("tenant", "")
        await self._infrastructure.ensure(namespace, tenant)
        try:
            handle = await self._make(request, secret, pod)
        except (NotThereError, ProviderUnavailableError):
            # Somebody has deleted the namespace or the account.
            await self._infrastructure.ensure(namespace, tenant, again=True)
            try:
                handle = await self._make(request, secret, pod)
            except NotThereError as error:
                problems = self._infrastructure.problems.get(namespace, ())
                raise ProviderUnavailableError("; ".join([str(error), *problems])) from error
        if request.max_jobs != 1 and "job" in request.labels:
            with contextlib.suppress(ProviderError):
                await self.name_job(request.worker_id, namespace, purpose_of(request))
        return handle

    async def name_job(self, worker_id: str, namespace: str, purpose: Purpose) -> None:
        """Give a pod the names of its job; those of the job before, if there was one, go."""
        patch = make_job_patch(names.worker_name(worker_id), namespace, purpose)
        await self._api.apply(pod_path(namespace, worker_id), patch, manager=JOB_FIELDS)

    async def _make(self, request: LaunchRequest, secret: Mapping[str, Any], pod: Mapping[str, Any]) -> Handle:
        worker_id, namespace = request.worker_id, pod["metadata"]["namespace"]
        path = secret_path(namespace, worker_id)
        await self._unowned.note(worker_id, namespace)
        self._without_secret.discard(worker_id)
        try:
            await self._api.create(secrets_path(namespace), secret)
        except AlreadyThereError:
            # Launched before: the newest token is the one that counts.
            await self._api.merge(path, {"data": secret["data"]})
        fault_point("kubernetes.secret_made")
        try:
            made = await self._create_pod(worker_id, pod)
        except ProviderUnavailableError:
            raise
        except ProviderError:
            await self.remove_secret(worker_id, namespace)
            raise
        fault_point("kubernetes.pod_made")
        await self._own(worker_id, made)
        fault_point("kubernetes.owner_set")
        return handle_of(made)

    async def _create_pod(self, worker_id: str, pod: Manifest) -> Manifest:
        """Make a worker's pod; return it, or the one that is there: an answer may have been lost (W13)."""
        namespace = pod["metadata"]["namespace"]
        try:
            return await self._api.create(pods_path(namespace), pod)
        except AlreadyThereError:
            there = await self._api.get(pod_path(namespace, worker_id))
        except ProviderUnavailableError:
            raise
        except ProviderError:
            # A quota is looked at before a name: what fills it may be this very pod.
            found = await self._find(worker_id, namespace)
            if found is None:
                raise
            return found
        return there

    async def _find(self, worker_id: str, namespace: str) -> dict[str, Any] | None:
        try:
            return await self._api.get(pod_path(namespace, worker_id))
        except NotThereError:
            return None

    async def _own(self, worker_id: str, pod: Mapping[str, Any]) -> None:
        """Make a pod its secret's owner: the one goes with the other, whoever deletes it."""
        metadata = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        with contextlib.suppress(NotThereError):
            patch = {"metadata": {"ownerReferences": [owner]}}
            await self._api.merge(secret_path(metadata["namespace"], worker_id), patch)
        await self._unowned.forget(worker_id)

    # Secrets

    async def burnt(self, worker_id: str, namespace: str) -> None:
        """Remove the secret of a worker that has its session: the token in it is of no use to anybody."""
        if worker_id not in self._without_secret:
            await self.settle(worker_id)
            await self.remove_secret(worker_id, namespace)
            self._without_secret.add(worker_id)

    async def remove_secret(self, worker_id: str, namespace: str) -> None:
        """Remove a worker's secret, if it is there: secrets can't be listed, but their names come from workers' ids."""
        if worker_id in self._without_secret:
            self._without_secret.discard(worker_id)
            return
        with contextlib.suppress(NotThereError):
            await self._api.delete(secret_path(namespace, worker_id))
        await self._unowned.forget(worker_id)

    async def sweep(self) -> None:
        """See to the secrets that no pod owned when the process before this one ended (W11): they get one, or go."""
        for worker_id, namespace in self._unowned.due():
            if worker_id in self:
                continue
            try:
                await self._own(worker_id, await self._api.get(pod_path(namespace, worker_id)))
            except NotThereError:
                if worker_id not in self:
                    await self.remove_secret(worker_id, namespace)
