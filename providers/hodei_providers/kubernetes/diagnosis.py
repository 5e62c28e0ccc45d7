"""What could explain a worker's failure: the events of its pod, and the last that was printed in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from hodei_providers.contract import ProviderError, WorkerPhase
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import NotThereError
from hodei_providers.kubernetes.layout import AGENT_CONTAINER, CONTAINER
from hodei_providers.kubernetes.paths import pod_path
from hodei_providers.kubernetes.state import read_pod

#: Lines of a worker's own output, and events, in a diagnosis.
TAIL, EVENTS = 20, 10
#: Seconds by which a kubelet may be late to write down that it evicts a pod, and between looks at what it has written.
#: Whoever asks has a little more, for what the pod says.
LATE_SECONDS, LOOK_SECONDS = 3.0, 0.2


async def read_events(api: Api, namespace: str, worker_id: str) -> Sequence[str]:
    """Return a pod's newest events, a line each.

    :raise ProviderError: the cluster can't be asked.
    """
    selector = f"involvedObject.name={names.worker_name(worker_id)}"
    answer = await api.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)
    events = answer["items"] or []
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [f"event {event.get('reason')}: {event.get('message')}" for event in events[-EVENTS:]]


async def read_eviction(api: Api, namespace: str, worker_id: str) -> str:
    """Return why a pod's kubelet evicts it: in an event about when it asks it to end, in its status once it has ended.

    As long as nothing else says why the pod ends, such an event is waited for a little.

    :return: empty where it does not.
    :raise ProviderError: the cluster can't be asked.
    """
    selector = f"involvedObject.name={names.worker_name(worker_id)},reason=Evicted"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LATE_SECONDS):
            while True:
                answer = await api.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)
                told = " ".join(str(event.get("message") or "").strip() for event in answer["items"] or [])
                if told or await _says_why(api, namespace, worker_id):
                    return told
                await asyncio.sleep(LOOK_SECONDS)
    return ""


async def _says_why(api: Api, namespace: str, worker_id: str) -> bool:
    """Whether a pod says itself why it ends: it has been deleted, or has ended."""
    try:
        pod = await api.get(pod_path(namespace, worker_id))
    except NotThereError:
        return True
    return "deletionTimestamp" in pod["metadata"] or read_pod(pod).description.phase is WorkerPhase.EXITED


async def read_output(api: Api, namespace: str, worker_id: str) -> Sequence[str]:
    """Return the last lines that were printed in a pod."""
    for container in (CONTAINER, AGENT_CONTAINER):
        # One that never ran has printed nothing, and where nothing may be printed any more its node can't be asked.
        with contextlib.suppress(ProviderError):
            text = await api.text(f"{pod_path(namespace, worker_id)}/log", container=container, tailLines=str(TAIL))
            if text:
                return text.splitlines()
    return []
