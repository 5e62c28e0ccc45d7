"""As whom a job's own image runs: as its own user where that is a number and not root, else as user 1000.

What an image says stands in the image, which only the nodes read. So under the standard `restricted` a pod asks for the
image's own user first. A kubelet that refuses that has started nothing of the job: the pod is made again in its place,
under the same name and with the same token, for the same attempt (`Launches.replace`). The image is remembered, so it
is the first job of an image that pays for it.

A kubelet writes its refusal into the pod's status when it next looks at the pod, and that is ten seconds later or more;
or at once, when the pod is changed meanwhile. So pods of images that are not known yet are changed a little.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hodei_providers.contract import Description, ProviderError, WorkerPhase
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.images import Images
from hodei_providers.kubernetes.launches import Launches
from hodei_providers.kubernetes.layout import AGENT_CONTAINER, CONTAINER
from hodei_providers.kubernetes.options import ImageUser, PodSecurityStandard
from hodei_providers.kubernetes.state import Seen, read_pod

Manifest = Mapping[str, Any]

#: Seconds between the changes of a pod that make its kubelet look at it.
LOOKS = (0.2, 0.5, 1.0, 2.0, 4.0)


class Readings:
    """Tells where workers are, by their pods, and has those made again that can't run as their image's own user.

    :param images: learns how images run.
    :param report: told of a worker that is made again, and why.
    """

    def __init__(
        self, config: KubernetesConfig, launches: Launches, images: Images, report: Callable[[Description], None]
    ) -> None:
        strict = config.pod_security_standard is PodSecurityStandard.RESTRICTED
        self._looks = strict and config.image_user is not ImageUser.FIXED
        self._replaces = strict and config.image_user is ImageUser.AUTO
        self._launches = launches
        self._images = images
        self._report = report
        #: The pods that were refused, by their uids, of workers that are there.
        self._refused: dict[str, str] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    def read(self, pod: Manifest) -> Seen:
        """Tell where a worker is; see `read_pod`. One whose pod is made again is pending, whatever the old one says."""
        seen = read_pod(pod)
        if self.is_replaced(pod):
            return _again(seen)
        worker_id = seen.description.handle.worker_id
        if not self._looks or _has_user(pod) or pod["metadata"].get("deletionTimestamp"):
            return seen
        if self._images.own(_image(pod)) is None and _is_about_to_start(pod):
            if worker_id not in self._looking:
                self._looking[worker_id] = asyncio.create_task(self._look(pod), name=f"look at {worker_id}")
            return seen
        self._end_looking(worker_id)
        if seen.description.phase is WorkerPhase.RUNNING:
            self._images.learn(_image(pod), own=True)
        if not seen.wrong_user or not self._replaces:
            return seen
        self._images.learn(_image(pod), own=False)
        self._refused[worker_id] = seen.uid
        again = _again(seen)
        self._report(again.description)
        self._launches.replace(pod, lambda: self._refused.pop(worker_id, None))
        return again

    async def _look(self, pod: Manifest) -> None:
        """Have a pod's kubelet look at it, a few times."""
        for number, seconds in enumerate(LOOKS):
            await asyncio.sleep(seconds)
            with contextlib.suppress(ProviderError):
                await self._launches.annotate(pod, {names.LOOKS: str(number)})

    def _end_looking(self, worker_id: str) -> None:
        looking = self._looking.pop(worker_id, None)
        if looking is not None:
            looking.cancel()

    def is_replaced(self, pod: Manifest) -> bool:
        """Whether a pod is one that another has taken, or takes, the place of."""
        return pod["metadata"].get("uid", "") in self._refused.values()

    def under_way(self) -> Collection[str]:
        """Return the workers that have no pod now and are about to have one."""
        return self._launches.under_way()

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._end_looking(worker_id)
        self._refused.pop(worker_id, None)

    def close(self) -> None:
        """Look at nothing any more."""
        for worker_id in list(self._looking):
            self._end_looking(worker_id)


def _again(seen: Seen) -> Seen:
    found = seen.description
    message = f"is made again, to run as user 1000: {found.message}"
    return Seen(Description(found.handle, WorkerPhase.PENDING, message=message), seen.uid)


def _container(pod: Manifest) -> Manifest:
    return next((each for each in pod["spec"].get("containers", ()) if each["name"] == CONTAINER), {})


def _image(pod: Manifest) -> str:
    return str(_container(pod).get("image", ""))


def _has_user(pod: Manifest) -> bool:
    """Whether a pod says as whom it runs: one without an image, one made again, or a patch says so."""
    return any("runAsUser" in (each.get("securityContext") or {}) for each in (pod["spec"], _container(pod)))


def _is_about_to_start(pod: Manifest) -> bool:
    """Whether a pod has its agent, and its worker does not run yet."""
    status = pod.get("status") or {}
    brought = [each for each in status.get("initContainerStatuses") or [] if each.get("name") == AGENT_CONTAINER]
    waits = [each for each in status.get("containerStatuses") or [] if each.get("name") == CONTAINER]
    return (
        status.get("phase") == "Pending"
        and any("terminated" in (each.get("state") or {}) for each in brought)
        and any((each["state"].get("waiting") or {}).get("reason") == "PodInitializing" for each in waits)
    )
