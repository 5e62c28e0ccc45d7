"""What is counted of pods as they change, and what all figures of the provider are called; see docs/metrics.md."""

from __future__ import annotations

import collections
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from hodei_providers.contract import Description, ExitReason, WorkerPhase
from hodei_providers.kubernetes.capacity import Cluster
from hodei_providers.kubernetes.layout import CONTAINER
from hodei_providers.kubernetes.state import handle_of
from hodei_providers.metrics import Distribution, Metric, Samples

PHASES = ("pending", "running", "succeeded", "failed", "unknown")
#: Whole seconds: that is how exactly the cluster tells when something was.
_SECONDS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MILLIS = 1000


class Figures:
    """The pods of one provider.

    :ivar pods: the last that was seen of each that is there, by worker id.
    :ivar starts: seconds from a pod's creation to its worker's container's start, as the cluster tells both.
    :ivar failures: pods that have failed their worker, by why.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Mapping[str, Any]] = {}
        self.starts = Distribution(*_SECONDS)
        self.failures: collections.Counter[str] = collections.Counter()
        self._starting: set[str] = set()
        self._removed: set[str] = set()

    def see(self, pod: Mapping[str, Any]) -> None:
        """Take note of a pod as it is now."""
        worker_id = handle_of(pod).worker_id
        self.pods[worker_id] = pod
        started = _started_at(pod)
        if not started:
            self._starting.add(worker_id)
        elif worker_id in self._starting:
            # One that had started before it was first seen was started for another server process.
            self._starting.discard(worker_id)
            created = dt.datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            self.starts.observe(max((dt.datetime.fromisoformat(started) - created).total_seconds(), 0.0))

    def gone(self, worker_id: str) -> None:
        """Take note that a pod is not there any more."""
        self.pods.pop(worker_id, None)
        self._starting.discard(worker_id)
        self._removed.discard(worker_id)

    def removing(self, worker_id: str) -> None:
        """Take note that the server removes a worker: from now on its pod's end is no failure."""
        if worker_id in self.pods:
            self._removed.add(worker_id)

    def told(self, description: Description) -> None:
        """Count what the watch tells of a worker, if that is a failure."""
        if description.handle.worker_id in self._removed:
            return
        cause = failure_of(description)
        if cause:
            self.failures[cause] += 1

    def families(self, calls: Mapping[tuple[str, int], int], cluster: Cluster) -> Iterable[Metric]:
        """Return all that is told.

        :param calls: of the API, by verb and code; 0 is no answer.
        """
        phases = collections.Counter(str((pod.get("status") or {}).get("phase")).lower() for pod in self.pods.values())
        pods: Samples = {(phase,): phases[phase] for phase in PHASES}
        yield Metric("kubernetes_pods", "gauge", "Workers' pods, by phase.", ("phase",), pods)
        text = "From a pod's creation to the start of its worker's container, by the cluster's clock."
        yield Metric("kubernetes_pod_start_seconds", "histogram", text, (), {(): self.starts})
        causes = dict.fromkeys(CAUSES, 0) | self.failures
        failures: Samples = {(cause,): count for cause, count in causes.items()}
        text = "Pods that ended, or were given up, otherwise than by their worker's own end or the server's wish."
        yield Metric("kubernetes_pod_failures_total", "counter", text, ("cause",), failures)
        made: Samples = {(verb.lower(), str(code) if code else "none"): count for (verb, code), count in calls.items()}
        text = "Calls of the cluster's API, by verb and the answer's code; each attempt counts."
        yield Metric("kubernetes_api_calls_total", "counter", text, ("verb", "code"), made)
        yield from _of_nodes(cluster)


#: Why pods fail their workers.
CAUSES = ("deadline", "deleted", "error", "evicted", "image", "out_of_memory", "signalled", "start")


def failure_of(description: Description) -> str:
    """Return why a pod has failed its worker; empty where it hasn't."""
    reason = description.reason
    if description.phase is WorkerPhase.MISSING:
        return "evicted" if reason is ExitReason.EVICTED else "deleted"
    if description.phase is WorkerPhase.PENDING:
        # Told only of those that will never start.
        return "image" if reason is ExitReason.IMAGE else "start"
    if reason is ExitReason.EXITED:
        return "error" if description.exit_code else ""
    return "error" if reason is ExitReason.UNKNOWN else reason.value


def _started_at(pod: Mapping[str, Any]) -> str:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            state = container.get("state") or {}
            return str((state.get("running") or state.get("terminated") or {}).get("startedAt") or "")
    return ""


def _of_nodes(cluster: Cluster) -> Iterable[Metric]:
    if not cluster.allocatable:
        return
    taking, there = cluster.nodes
    nodes: Samples = {("yes",): taking, ("no",): there - taking}
    yield Metric("kubernetes_nodes", "gauge", "Nodes, by whether they take workers.", ("takes_workers",), nodes)
    known = {"allocatable": cluster.allocatable, "asked": cluster.asked, "used": cluster.used}
    told = {name: amount for name, amount in known.items() if amount is not None}
    cpu: Samples = {(name,): amount.get("cpu_millis", 0) / _MILLIS for name, amount in told.items()}
    text = "Processors of the nodes that take workers: allocatable, asked by all pods there, used."
    yield Metric("kubernetes_node_cpu_cores", "gauge", text, ("kind",), cpu)
    memory: Samples = {(name,): amount.get("memory_bytes", 0) for name, amount in told.items()}
    text = "Memory of the nodes that take workers: allocatable, asked by all pods there, used."
    yield Metric("kubernetes_node_memory_bytes", "gauge", text, ("kind",), memory)
