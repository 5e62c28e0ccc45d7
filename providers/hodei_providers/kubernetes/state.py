"""What a pod's object says of its worker, as a pure function: phases, conditions and containers become typed causes."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from hodei_providers.contract import Description, ExitReason, Handle, WorkerPhase
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.layout import CONTAINER

Manifest = Mapping[str, Any]

#: Reasons of a waiting container that time does not heal.
PERMANENT = frozenset({"InvalidImageName", "ErrImageNeverPull"})
#: Reasons of a waiting container that concern its image; time may heal them, a registry may come back.
IMAGE = PERMANENT | {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
#: Others that time may heal, as when something that is mounted is made later.
HEALING = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
#: What a registry's refusals hold that will be the same tomorrow.
_NO_SUCH_IMAGE = ("code = NotFound", "manifest unknown", "not found", "pull access denied", "code = InvalidArgument")
#: What a kubelet says of an image that runs as nobody that the pod lets it.
_NO_SUCH_USER = ("image will run as root", "image has non-numeric user")
#: Reasons of a failed pod that were the cluster's doing, not the worker's.
_EVICTIONS = frozenset({"Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost", "NodeAffinity"})
#: Whose doing it is that a pod of a node that is gone has failed: nobody has asked that node.
_COLLECTED = "DeletionByPodGC"
#: What a kubelet says of a pod that was placed on its node and that it does not take: a taint, no room any more.
_REJECTED = "Pod was rejected"
MAX_MESSAGE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A worker as its pod shows it.

    :param uid: the pod's; another pod of the same name is not the same worker.
    :param trouble: it waits for something that may heal: an image that can't be pulled now.
    :param wrong_user: its kubelet does not start it as its image's own user.
    :param finished_at: when its container ended, as the API writes times; empty if it has not.
    """

    description: Description
    uid: str
    trouble: bool = False
    wrong_user: bool = False
    finished_at: str = ""


def worker_id_of(pod: Manifest) -> str:
    """Return whose pod it is; empty where it is no worker's, as somebody's copy of one.

    A pod's name says it, which nobody can edit. What an annotation or a label says counts where the name agrees: of a
    long id the name has a part.
    """
    metadata = pod["metadata"]
    name: str = metadata["name"]
    for field in ("annotations", "labels"):
        told = (metadata.get(field) or {}).get(names.WORKER_ID)
        if told and names.worker_name(told) == name:
            return str(told)
    return name.removeprefix(names.WORKER_PREFIX) if name.startswith(names.WORKER_PREFIX) else ""


def handle_of(pod: Manifest) -> Handle:
    """Return what names a pod's worker; it holds the namespace (W42)."""
    metadata = pod["metadata"]
    return Handle(worker_id_of(pod), {"namespace": metadata["namespace"], "pod": metadata["name"]})


def made_by(pod: Manifest, provider_name: str) -> bool:
    """Whether a provider has made a pod, or it doesn't say: others may have theirs in the same namespace."""
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    return annotations.get(names.PROVIDER_ID, provider_name) == provider_name


def has_ended(pod: Manifest) -> bool:
    """Whether a pod's worker does not run, by the word of its kubelet, or as the pod has no node.

    An object that was taken away by force says what it said before: containers run on where nobody has ended them.
    """
    status = pod.get("status") or {}
    if not pod["spec"].get("nodeName") or _worker_end(status):
        return True
    if _condition(status, "DisruptionTarget").get("reason") == _COLLECTED:
        return False
    # A kubelet tells of a pod's end when nothing of it runs; of one that it never started that is all it tells.
    return status.get("phase") in {"Succeeded", "Failed"} and "running" not in _worker_state(status)


def read_pod(pod: Manifest) -> Seen:
    """Tell where a worker is."""
    status = pod.get("status") or {}
    uid = pod["metadata"].get("uid", "")
    handle = handle_of(pod)
    phase = status.get("phase", "Pending")
    # A pod is over with its worker: sidecars that end later keep nobody waiting.
    if phase in {"Succeeded", "Failed"} or (phase == "Running" and _worker_end(status)):
        description, finished_at = _ended(handle, pod)
        description = dataclasses.replace(description, unconfirmed=not has_ended(pod))
        return Seen(description, uid, finished_at=finished_at)
    disruption = _condition(status, "DisruptionTarget")
    if phase == "Running":
        reason = ExitReason.EVICTED if disruption else ExitReason.UNKNOWN
        message = _cut(_told(disruption) or _being_deleted(pod, f"runs on node {pod['spec'].get('nodeName', '')}"))
        return Seen(Description(handle, WorkerPhase.RUNNING, reason=reason, message=message), uid)
    if disruption:
        # It may run already: a kubelet tells so later than it starts it.
        evicted = Description(handle, WorkerPhase.PENDING, reason=ExitReason.EVICTED, message=_cut(_told(disruption)))
        return Seen(evicted, uid)
    return _pending(handle, pod, uid)


def read_deleted(pod: Manifest) -> Description:
    """Tell how a worker ended whose pod is gone, by the last that was seen of it."""
    seen = read_pod(pod).description
    if seen.phase is WorkerPhase.EXITED:
        return seen
    disruption = _condition(pod.get("status") or {}, "DisruptionTarget")
    reason = ExitReason.EVICTED if disruption else ExitReason.UNKNOWN
    message = _cut(f"the pod was evicted: {_told(disruption)}") if disruption else "the pod was deleted"
    return Description(seen.handle, WorkerPhase.MISSING, reason=reason, message=message, unconfirmed=not has_ended(pod))


def _pending(handle: Handle, pod: Manifest, uid: str) -> Seen:
    status = pod.get("status") or {}
    for waiting in _states(status, "waiting"):
        reason, text = waiting.get("reason", ""), waiting.get("message", "")
        message = _cut(f"{reason}: {text}" if text else reason)
        no_such_user = any(words in text for words in _NO_SUCH_USER)
        if reason in IMAGE or no_such_user:
            no_such_image = reason in PERMANENT or any(words in text for words in _NO_SUCH_IMAGE)
            permanent = no_such_user or no_such_image
            found = Description(
                handle, WorkerPhase.PENDING, reason=ExitReason.IMAGE, message=message, permanent=permanent
            )
            return Seen(found, uid, trouble=True, wrong_user=no_such_user)
        if reason in HEALING:
            return Seen(Description(handle, WorkerPhase.PENDING, message=message), uid, trouble=True)
    scheduled = _condition(status, "PodScheduled", wanted="False")
    if scheduled:
        reason = ExitReason.UNSCHEDULABLE if scheduled.get("reason") == "Unschedulable" else ExitReason.UNKNOWN
        return Seen(Description(handle, WorkerPhase.PENDING, reason=reason, message=_cut(_told(scheduled))), uid)
    node = pod["spec"].get("nodeName", "")
    message = _being_deleted(pod, f"is being started on node {node}" if node else "waits for the scheduler")
    return Seen(Description(handle, WorkerPhase.PENDING, message=message), uid)


def _being_deleted(pod: Manifest, where: str) -> str:
    return f"{where}, is being deleted" if pod["metadata"].get("deletionTimestamp") else where


def _ended(handle: Handle, pod: Manifest) -> tuple[Description, str]:
    status = pod["status"]
    # Where the worker never ran, an init container that failed has ended the pod. Sidecars end after it, somehow.
    ran = "running" in _worker_state(status)
    others = [] if ran else sorted(_states(status, "terminated"), key=lambda end: end.get("exitCode", 0) == 0)
    end = _worker_end(status) or (others[0] if others else {})
    finished_at = str(end.get("finishedAt") or "")
    code = end.get("exitCode")
    disruption = _condition(status, "DisruptionTarget")
    why = str(status.get("reason") or "")
    told = [why, str(status.get("message") or ""), _told(disruption)]
    number = end.get("signal") or (code - 128 if code is not None and code > 128 else 0)
    reason = ExitReason.UNKNOWN
    if why in _EVICTIONS or disruption or _REJECTED in told[1]:
        reason = ExitReason.EVICTED
    elif why == "DeadlineExceeded":
        reason = ExitReason.DEADLINE
    elif end.get("reason") == "OOMKilled":
        reason = ExitReason.OUT_OF_MEMORY
    elif number:
        reason = ExitReason.SIGNALLED
    elif code is not None:
        reason = ExitReason.EXITED
    if end:
        told.append(f"the container ended with code {code} ({end.get('reason') or 'no reason given'})")
        told.append(str(end.get("message") or ""))
    message = _cut(": ".join(part for part in told if part) or "the pod has ended")
    if number and number in set(signal.Signals):
        return Description(handle, WorkerPhase.EXITED, None, number, reason, message), finished_at
    return Description(handle, WorkerPhase.EXITED, code, None, reason, message), finished_at


def _worker_end(status: Manifest) -> Mapping[str, Any]:
    """Return how the worker's container has ended; empty while it has not."""
    return _worker_state(status).get("terminated") or {}


def _worker_state(status: Manifest) -> Mapping[str, Any]:
    for container in status.get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            found: Mapping[str, Any] = container.get("state") or {}
            return found
    return {}


def _states(status: Manifest, kind: str) -> Iterator[Mapping[str, Any]]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(field) or []:
            state = (container.get("state") or {}).get(kind)
            if state:
                yield state


def _condition(status: Manifest, kind: str, wanted: str = "True") -> Mapping[str, Any]:
    for condition in status.get("conditions") or []:
        if condition.get("type") == kind and condition.get("status") == wanted:
            found: Mapping[str, Any] = condition
            return found
    return {}


def _told(condition: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (condition.get("reason", ""), condition.get("message", "")) if part)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
