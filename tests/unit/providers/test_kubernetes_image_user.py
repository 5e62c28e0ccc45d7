"""Pods that don't start as their image's own user, as recorded of a cluster; whether they are made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hodei_providers.contract import Description, WorkerPhase
from hodei_providers.kubernetes import ImageUser, KubernetesConfig, PodSecurityStandard
from hodei_providers.kubernetes.image_user import Readings
from hodei_providers.kubernetes.images import Images

ROOT = "container has runAsNonRoot and image will run as root (pod: a)"
NAMED = "container has runAsNonRoot and image has non-numeric user (me), cannot verify user is non-root"
REFUSED = "CreateContainerConfigError"


class NeverReplaced:
    """Takes what is to be made again, and makes nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.given_up: list[Callable[[], Any]] = []

    def replace(self, pod: Any, given_up: Callable[[], Any]) -> None:
        """Note it."""
        self.asked.append(pod["metadata"]["uid"])
        self.given_up.append(given_up)


def pod(status: dict[str, Any], *, user: int | None = None, **metadata: Any) -> dict[str, Any]:
    """Return a worker's pod."""
    names = {"name": "hodei-worker-w1", "namespace": "space", "uid": "u", "labels": {"hodei.io/worker-id": "w1"}}
    context = {"runAsNonRoot": True} | ({} if user is None else {"runAsUser": user})
    spec = {"containers": [{"name": "worker", "image": "a"}], "securityContext": context}
    return {"metadata": {**names, **metadata}, "spec": spec, "status": status}


def waiting(message: str) -> dict[str, Any]:
    """Return the status of a pod whose container its kubelet does not start."""
    state = {"waiting": {"reason": REFUSED, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "worker", "state": state}]}


reported: list[Description] = []


@pytest.fixture
def launches() -> NeverReplaced:
    """Return what takes orders."""
    return NeverReplaced()


@pytest.fixture
def readings(launches: Any) -> Callable[..., Readings]:
    """Return what makes readings with a provider's settings."""
    return lambda **settings: Readings(KubernetesConfig(**settings), launches, Images(), reported.append)


@pytest.mark.parametrize("words", [ROOT, NAMED])
def test_a_pod_that_is_refused_its_user_is_made_again_once_and_is_pending_meanwhile(
    readings: Callable[..., Readings], launches: NeverReplaced, words: str
) -> None:
    """W14: also while the old one is being deleted, and when it has ended; its job is told why."""
    reported.clear()
    reading = readings()
    killed = {"exitCode": 137, "reason": "Error", "finishedAt": "2026-11-29T00:00:00Z"}
    ended = {"phase": "Failed", "containerStatuses": [{"name": "worker", "state": {"terminated": killed}}]}
    for each in (
        pod(waiting(words)),
        pod(waiting(words)),
        pod(waiting(words), deletionTimestamp="2026-11-29T00:00:00Z"),
        pod(ended, deletionTimestamp="2026-11-29T00:00:00Z"),
    ):
        seen = reading.read(each)
        found = seen.description
        assert (found.phase, found.permanent, seen.trouble) == (WorkerPhase.PENDING, False, False)
        assert reading.is_replaced(each)
    assert launches.asked == ["u"]
    assert [words in each.message for each in reported] == [True]
    assert reading.read(pod({"phase": "Running"}, uid="other")).description.phase is WorkerPhase.RUNNING


def test_a_pod_that_could_not_be_made_again_is_read_as_it_is(
    readings: Callable[..., Readings], launches: NeverReplaced
) -> None:
    """W09: what became of it is told, where nothing comes in its place."""
    reading = readings()
    reading.read(pod(waiting(ROOT)))
    launches.given_up[0]()
    assert not reading.is_replaced(pod(waiting(ROOT)))
    assert reading.read(pod({"phase": "Failed"})).description.phase is WorkerPhase.EXITED


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({"image_user": ImageUser.OWN}, pod(waiting(ROOT))),
        ({"pod_security_standard": PodSecurityStandard.BASELINE}, pod(waiting(ROOT))),
        ({}, pod(waiting(ROOT), user=1000)),
        ({}, pod(waiting(ROOT), deletionTimestamp="2026-11-29T00:00:00Z")),
        ({}, pod(waiting('secret "a" not found'))),
    ],
)
def test_what_is_refused_for_another_reason_is_not_made_again(
    readings: Callable[..., Readings], launches: NeverReplaced, settings: dict[str, Any], made: dict[str, Any]
) -> None:
    """The setting says not to, it is the second one, somebody removes it, or it waits for something else."""
    reading = readings(**settings)
    assert reading.read(made).description.phase is WorkerPhase.PENDING
    assert not launches.asked
    assert not reading.is_replaced(made)
