"""Takes a worker's pod away.

A pod's last second is its kubelet's: only what that has confirmed is gone. That of a lost node says nothing any more;
its workers count as gone once they must have ended by themselves. So do those whose pod somebody has taken away by
force: what it said last is what is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.ends import Ends
from hodei_providers.kubernetes.errors import NotThereError
from hodei_providers.kubernetes.nodes import Nodes
from hodei_providers.kubernetes.paths import pod_path

#: Seconds that a pod's end is waited for beyond the grace that it was given.
WAIT_SECONDS = 20.0
#: Seconds between looks at a pod that is being deleted: from, and at most.
POLL_SECONDS = (0.1, 0.5)
#: And while a watch tells of its end: each look is one of the calls that `HODEI_K8S_API_RATE` lets through.
WATCHED_POLL_SECONDS = (2.0, 5.0)

Manifest = Mapping[str, Any]


async def remove(api: Api, nodes: Nodes, ends: Ends, worker_id: str, namespace: str, *, grace: float) -> bool:
    """Delete a worker's pod and wait for its end; return whether the worker is gone.

    :param ends: knows of pods that went, and is told of this one.
    :param grace: seconds between SIGTERM and SIGKILL.
    """
    path = pod_path(namespace, worker_id)
    ends.removing(worker_id)
    with ends.awaited(worker_id) as gone:

        async def pause(looks: int) -> None:
            seconds = _until_next(looks, WATCHED_POLL_SECONDS if ends.are_told(namespace) else POLL_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await gone.wait()
            gone.clear()  # there may be another pod in its place, or nobody who tells any more

        if await delete(api, path, grace=grace, seen=ends.see, pause=pause):
            return await ends.is_over(worker_id)
    return await _give_up(api, nodes, worker_id, path)


def _until_next(looks: int, bounds: tuple[float, float]) -> float:
    first, most = bounds
    # The power is bounded: a long grace has more looks than a float can hold.
    return min(most, first * 1.5 ** min(looks, 32))


async def _pause(looks: int) -> None:
    await asyncio.sleep(_until_next(looks, POLL_SECONDS))


async def delete(
    api: Api,
    path: str,
    *,
    grace: float,
    uid: str = "",
    seen: Callable[[Manifest], object] = lambda _: None,
    pause: Callable[[int], Awaitable[None]] = _pause,
) -> bool:
    """Delete a pod and wait for it to go; return whether there is none any more.

    :param uid: only if it is this very one.
    :param seen: called with the pod as it is before it is deleted, and at each look until it has gone.
    :param pause: waits until the next look; called with how many there were.
    """
    deadline = time.monotonic() + grace + WAIT_SECONDS
    looks = 0
    try:
        seen(await api.get(path))
        # Zero would take the object away without asking the kubelet whether its processes are gone.
        await api.delete(path, grace=max(1, math.ceil(grace)), uid=uid)
        while time.monotonic() < deadline:
            await pause(looks)
            seen(await api.get(path))
            looks += 1
    except NotThereError:
        return True
    return False


async def _give_up(api: Api, nodes: Nodes, worker_id: str, path: str) -> bool:
    """Take away the object of a pod whose node has been lost for so long that nothing can run there any more."""
    try:
        pod = await api.get(path)
        if not await nodes.lost_for_good(worker_id, pod):
            return False
        await api.delete(path, grace=0, uid=pod["metadata"]["uid"])
    except NotThereError:
        return False
    return True
