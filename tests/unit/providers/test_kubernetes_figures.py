"""What is counted of pods, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from hodei_providers.contract import Description, ExitReason, Handle, WorkerPhase
from hodei_providers.kubernetes.capacity import Cluster
from hodei_providers.kubernetes.figures import CAUSES, Figures, failure_of

WORKER = "one"


def pod(phase: str, started: str = "") -> dict[str, Any]:
    """Return a pod of the worker."""
    state = {"running": {"startedAt": started}} if started else {"waiting": {"reason": "ContainerCreating"}}
    return {
        "metadata": {
            "name": f"hodei-worker-{WORKER}",
            "namespace": "space",
            "creationTimestamp": "2026-11-29T10:00:00Z",
            "labels": {"hodei.io/worker-id": WORKER},
        },
        "status": {"phase": phase, "containerStatuses": [{"name": "worker", "state": state}]},
    }


def told(
    phase: WorkerPhase,
    reason: ExitReason = ExitReason.UNKNOWN,
    exit_code: int | None = None,
    *,
    permanent: bool = False,
) -> Description:
    """Return what a watch tells of the worker."""
    return Description(Handle(WORKER), phase, exit_code, None, reason, permanent=permanent)


def figure(figures: Figures, name: str, *labels: str) -> Any:
    """Return one figure."""
    families = {each.name: each for each in figures.families({}, Cluster())}
    return families[name].samples[labels]


def test_pods_are_counted_by_phase_and_forgotten_with_their_pod() -> None:
    """As the watch has them; a phase without any is 0."""
    figures = Figures()
    figures.see(pod("Pending"))
    assert figure(figures, "kubernetes_pods", "pending") == 1
    figures.see(pod("Running", "2026-11-29T10:00:03Z"))
    assert [figure(figures, "kubernetes_pods", phase) for phase in ("pending", "running")] == [0, 1]
    figures.gone(WORKER)
    assert figure(figures, "kubernetes_pods", "running") == 0


def test_a_start_counts_once_from_the_pods_creation() -> None:
    """And not at all where it had started before this process has seen it."""
    figures = Figures()
    figures.see(pod("Running", "2026-11-29T10:00:03Z"))
    assert sum(figures.starts.counts) == 0
    figures.gone(WORKER)
    figures.see(pod("Pending"))
    for _ in range(2):
        figures.see(pod("Running", "2026-11-29T10:00:03Z"))
    assert (sum(figures.starts.counts), figures.starts.total) == (1, 3.0)


@pytest.mark.parametrize(
    ("description", "cause"),
    [
        (told(WorkerPhase.EXITED, ExitReason.EXITED, 0), ""),
        (told(WorkerPhase.EXITED, ExitReason.EXITED, 3), "error"),
        (told(WorkerPhase.EXITED), "error"),
        (told(WorkerPhase.EXITED, ExitReason.OUT_OF_MEMORY, 137), "out_of_memory"),
        (told(WorkerPhase.EXITED, ExitReason.EVICTED), "evicted"),
        (told(WorkerPhase.EXITED, ExitReason.DEADLINE), "deadline"),
        (told(WorkerPhase.EXITED, ExitReason.SIGNALLED), "signalled"),
        (told(WorkerPhase.MISSING), "deleted"),
        (told(WorkerPhase.MISSING, ExitReason.EVICTED), "evicted"),
        (told(WorkerPhase.PENDING, ExitReason.IMAGE, permanent=True), "image"),
        (told(WorkerPhase.PENDING, permanent=True), "start"),
    ],
)
def test_failures_are_counted_by_cause(description: Description, cause: str) -> None:
    """A worker that ends as it should is none."""
    assert failure_of(description) == cause
    figures = Figures()
    figures.see(pod("Running"))
    figures.told(description)
    assert dict(figures.failures) == ({cause: 1} if cause else {})
    assert not cause or figure(figures, "kubernetes_pod_failures_total", cause) == 1
    assert set(figures.failures) <= set(CAUSES)


def test_what_the_server_removes_has_not_failed() -> None:
    """Its pod is deleted while it runs."""
    figures = Figures()
    figures.see(pod("Running"))
    figures.removing(WORKER)
    figures.told(told(WorkerPhase.MISSING))
    figures.gone(WORKER)
    assert not figures.failures


def test_calls_of_the_api_are_told_by_verb_and_code() -> None:
    """No answer is a code, too."""
    families = {each.name: each for each in Figures().families({("GET", 200): 5, ("POST", 0): 1}, Cluster())}
    assert families["kubernetes_api_calls_total"].samples == {("get", "200"): 5, ("post", "none"): 1}


def test_what_is_not_known_of_nodes_is_not_told() -> None:
    """Neither as 0, nor at all."""
    assert "kubernetes_nodes" not in {each.name for each in Figures().families({}, Cluster())}
    cluster = Cluster((1, 2), {"cpu_millis": 2500, "memory_bytes": 7}, asked=None, used={"cpu_millis": 500})
    families = {each.name: each for each in Figures().families({}, cluster)}
    assert families["kubernetes_nodes"].samples == {("yes",): 1, ("no",): 1}
    assert families["kubernetes_node_cpu_cores"].samples == {("allocatable",): 2.5, ("used",): 0.5}
