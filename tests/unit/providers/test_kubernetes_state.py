"""What pods say, as recorded of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from hodei_providers.contract import ExitReason, WorkerPhase
from hodei_providers.kubernetes.names import worker_name
from hodei_providers.kubernetes.state import handle_of, has_ended, read_deleted, read_pod, worker_id_of
from hodei_providers.kubernetes.watching import Troubles


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a worker's pod."""
    return {
        "metadata": {
            "name": "hodei-worker-w1",
            "namespace": "space",
            "uid": "u",
            "labels": {"hodei.io/worker-id": "w1"},
            **metadata,
        },
        "spec": {"nodeName": "node1"},
        "status": status,
    }


LONG = "w" * 70


@pytest.mark.parametrize(
    ("name", "worker_id", "own"),
    [
        ("hodei-worker-w1", "w1", {"labels": {"hodei.io/worker-id": "w1"}}),
        ("hodei-worker-w1", "w1", {"labels": {"hodei.io/worker-id": "w2"}}),
        ("hodei-worker-w1", "w1", {"labels": {}}),
        ("hodei-worker-w1", "w1", {"labels": None}),
        (worker_name(LONG), LONG, {"annotations": {"hodei.io/worker-id": LONG}}),
        ("a-copy", "", {"labels": {"hodei.io/worker-id": "w1"}}),
    ],
)
def test_a_pod_is_the_workers_that_its_name_says(name: str, worker_id: str, own: dict[str, Any]) -> None:
    """W12, W27: labels and annotations can be edited, and copied; those of a long id have the whole of it."""
    found = pod({}, name=name, **own)
    assert worker_id_of(found) == worker_id
    assert handle_of(found).worker_id == worker_id


def waiting(reason: str, message: str = "", kind: str = "containerStatuses") -> dict[str, Any]:
    """Return the status of a pod whose container waits."""
    return {
        "phase": "Pending",
        kind: [{"name": "worker", "state": {"waiting": {"reason": reason, "message": message}}}],
    }


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    """Return the status of a pod whose container has ended."""
    end = {"exitCode": code, "reason": reason, "finishedAt": "2026-11-25T00:00:00Z"}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "worker", "state": {"terminated": end}}], **more}


DISRUPTION = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}
REJECTED = "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 1900, capacity: 2000"
FAILED_PULL = 'failed to pull and unpack image "x:1": failed to resolve reference "x:1": '
TEXT = "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible"


@pytest.mark.parametrize(
    ("status", "phase", "reason", "code", "number"),
    [
        ({"phase": "Pending"}, WorkerPhase.PENDING, ExitReason.UNKNOWN, None, None),
        ({"phase": "Pending", "conditions": [DISRUPTION]}, WorkerPhase.PENDING, ExitReason.EVICTED, None, None),
        ({"phase": "Running"}, WorkerPhase.RUNNING, ExitReason.UNKNOWN, None, None),
        (ended(0, "Completed"), WorkerPhase.EXITED, ExitReason.EXITED, 0, None),
        (ended(7), WorkerPhase.EXITED, ExitReason.EXITED, 7, None),
        (ended(137), WorkerPhase.EXITED, ExitReason.SIGNALLED, None, 9),
        (ended(143), WorkerPhase.EXITED, ExitReason.SIGNALLED, None, 15),
        (ended(137, "OOMKilled"), WorkerPhase.EXITED, ExitReason.OUT_OF_MEMORY, None, 9),
        ({"phase": "Failed", "reason": "Evicted"}, WorkerPhase.EXITED, ExitReason.EVICTED, None, None),
        (ended(137, reason="Error", conditions=[DISRUPTION]), WorkerPhase.EXITED, ExitReason.EVICTED, None, 9),
        ({"phase": "Failed", "reason": "NodeShutdown"}, WorkerPhase.EXITED, ExitReason.EVICTED, None, None),
        ({"phase": "Failed", "message": REJECTED}, WorkerPhase.EXITED, ExitReason.EVICTED, None, None),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, WorkerPhase.EXITED, ExitReason.DEADLINE, None, None),
        ({"phase": "Failed"}, WorkerPhase.EXITED, ExitReason.UNKNOWN, None, None),
    ],
)  # fmt: skip
def test_a_status_becomes_a_phase_and_a_cause(
    status: dict[str, Any], phase: WorkerPhase, reason: ExitReason, code: int | None, number: int | None
) -> None:
    """W06, W07, W08: out of memory, signals and evictions are told apart."""
    found = read_pod(pod(status)).description
    assert (found.phase, found.reason, found.exit_code, found.signal) == (phase, reason, code, number)
    assert found.message
    assert found.handle.data["namespace"] == "space"


@pytest.mark.parametrize(
    ("reason", "message", "permanent"),
    [
        ("InvalidImageName", "couldn't parse image name", True),
        ("ErrImageNeverPull", "not present with pull policy of Never", True),
        ("ErrImagePull", f"rpc error: code = NotFound desc = {FAILED_PULL}x:1: not found", True),
        ("ErrImagePull", f"{FAILED_PULL}pull access denied, repository does not exist", True),
        ("ErrImagePull", f"{FAILED_PULL}dial tcp: lookup registry: no such host", False),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root (pod: a)", True),
        ("CreateContainerConfigError", "image has non-numeric user (me), cannot verify user is non-root", True),
        ("ImagePullBackOff", 'Back-off pulling image "x:1"', False),
    ],
)
def test_an_image_that_is_not_there_is_told_from_a_registry_that_does_not_answer(
    *, reason: str, message: str, permanent: bool
) -> None:
    """W01: the one fails now, the other may heal."""
    for kind in ("containerStatuses", "initContainerStatuses"):
        seen = read_pod(pod(waiting(reason, message, kind)))
        found = seen.description
        assert (found.phase, found.reason, found.permanent) == (WorkerPhase.PENDING, ExitReason.IMAGE, permanent)
        assert reason in found.message
        assert message[:20] in found.message
        assert seen.trouble


def test_what_may_heal_has_its_time_and_no_more() -> None:
    """W01: after the grace it counts as what never will; once it is healed the time begins anew."""
    backing_off = read_pod(pod(waiting("ImagePullBackOff")))
    patient, hasty = Troubles(3600.0), Troubles(0.0)
    assert not patient.judge(backing_off).permanent
    assert 0 < patient.next_due() <= 3600
    patient.judge(read_pod(pod({"phase": "Running"})))
    assert patient.next_due() == float("inf")
    assert hasty.judge(backing_off).permanent


def test_the_schedulers_own_words_are_told() -> None:
    """W02: why it is not scheduled."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": TEXT}
    found = read_pod(pod({"phase": "Pending", "conditions": [condition]})).description
    assert (found.phase, found.reason) == (WorkerPhase.PENDING, ExitReason.UNSCHEDULABLE)
    assert TEXT in found.message
    assert not found.permanent


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_pod_that_somebody_deletes_says_so_whether_its_kubelet_has_told_that_it_runs_or_not(phase: str) -> None:
    """W08: an evicted job is told by whom it was asked to end."""
    found = read_pod(pod({"phase": phase}, deletionTimestamp="2026-01-01T00:00:00Z")).description
    assert found.message.endswith("on node node1, is being deleted")
    assert "deleted" not in read_pod(pod({"phase": phase})).description.message


def test_a_pod_that_was_deleted_ended_as_it_was_last_seen() -> None:
    """W08, W09: evicted, ended by itself, or taken away while it ran."""
    running = {"phase": "Running"}
    taken = read_deleted(pod(running))
    assert (taken.phase, taken.reason) == (WorkerPhase.MISSING, ExitReason.UNKNOWN)
    assert "deleted" in taken.message
    evicted = read_deleted(pod(running | {"conditions": [DISRUPTION]}))
    assert (evicted.phase, evicted.reason) == (WorkerPhase.MISSING, ExitReason.EVICTED)
    assert "Eviction API" in evicted.message
    done = read_deleted(pod(ended(3)))
    assert (done.phase, done.exit_code) == (WorkerPhase.EXITED, 3)


COLLECTED = DISRUPTION | {"reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"}
BEGUN = {"containerStatuses": [{"name": "worker", "state": {"running": {}}}]}
WAITING = {"containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": "PodInitializing"}}}]}


@pytest.mark.parametrize(
    ("status", "ended_there"),
    [
        ({"phase": "Running", **BEGUN}, False),
        ({"phase": "Pending", **WAITING}, False),
        ({"phase": "Running"}, False),
        ({"phase": "Failed", "conditions": [COLLECTED], **BEGUN}, False),
        ({"phase": "Failed", "conditions": [COLLECTED], **WAITING}, False),
        ({"phase": "Failed", **BEGUN}, False),
        (ended(137, conditions=[COLLECTED]), True),
        (ended(143, conditions=[DISRUPTION]), True),
        ({"phase": "Failed", "reason": "Evicted"}, True),
        ({"phase": "Failed", **WAITING}, True),
    ],
)
def test_who_takes_an_object_away_does_not_confirm_that_its_worker_has_ended(
    *, status: dict[str, Any], ended_there: bool
) -> None:
    """W08, W14: only its kubelet does; the cluster calls a lost node's pods failed and does not know."""
    gone = pod(status)
    assert has_ended(gone) is ended_there
    assert read_deleted(gone).unconfirmed is not ended_there
    assert read_pod(gone).description.unconfirmed is (status["phase"] == "Failed" and not ended_there)
    # One that was never placed has run nowhere.
    assert has_ended(gone | {"spec": {}})


def test_a_worker_that_nobody_has_seen_end_has_no_exit_code_of_what_came_before_it() -> None:
    """W08: the agent was brought well, which says nothing of the worker that runs on."""
    brought = {"name": "agent", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    status = {
        "phase": "Failed",
        "conditions": [COLLECTED],
        "initContainerStatuses": [brought],
        "containerStatuses": [{"name": "worker", "state": {"running": {}}}],
    }
    found = read_pod(pod(status)).description
    assert (found.exit_code, found.reason, found.unconfirmed) == (None, ExitReason.EVICTED, True)
    assert found.message == "DeletionByPodGC: PodGC: node no longer exists"


def test_a_sidecar_neither_keeps_a_finished_pod_alive_nor_says_how_it_ended() -> None:
    """It is killed after the worker, and its code is nobody's."""
    sidecar = {"name": "proxy", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}
    for phase, state in (("Running", {"running": {}}), ("Succeeded", sidecar["state"])):
        status = ended(0, "Completed", initContainerStatuses=[sidecar | {"state": state}]) | {"phase": phase}
        seen = read_pod(pod(status))
        assert (seen.description.phase, seen.description.exit_code) == (WorkerPhase.EXITED, 0)
        assert seen.finished_at
    begun = {"phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {}}}]}
    assert read_pod(pod(begun)).description.phase is WorkerPhase.RUNNING
