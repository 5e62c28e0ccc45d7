"""Takes a worker's pod away.

A pod's last second is its kubelet's: only what that has confirmed is gone. That of a lost node says nothing any more;
its workers count as gone once they must have ended by themselves. So do those whose pod somebody has taken away by
force: what it said last is what is known, and a watch of the one pod has that.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from hodei_providers.contract import ProviderError
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.ends import Ends
from hodei_providers.kubernetes.errors import NotThereError
from hodei_providers.kubernetes.listing import list_all
from hodei_providers.kubernetes.nodes import Nodes
from hodei_providers.kubernetes.paths import pod_path

#: Seconds that a pod's end is waited for beyond the grace that it was given.
WAIT_SECONDS = 20.0
#: Seconds from a watch of a pod that has broken off to the next look at it.
RETRY_SECONDS = 0.5

Manifest = Mapping[str, Any]


async def remove(api: Api, nodes: Nodes, ends: Ends, worker_id: str, namespace: str, *, grace: float) -> bool:
    """Delete a worker's pod and wait for its end; return whether the worker is gone.

    :param ends: knows of pods that went, and is told of this one.
    :param grace: seconds between SIGTERM and SIGKILL.
    """
    path = pod_path(namespace, worker_id)
    ends.removing(worker_id)
    if await delete(api, path, grace=grace, seen=ends.see):
        return ends.is_over(worker_id)
    return await _give_up(api, nodes, worker_id, path)


async def delete(
    api: Api, path: str, *, grace: float, uid: str = "", seen: Callable[[Manifest], object] = lambda _: None
) -> bool:
    """Delete a pod and wait for it to go; return whether there is none any more.

    :param uid: only if it is this very one.
    :param seen: called with the pod as it is before it is deleted, and each time that it changes: last as it went.
    """
    deadline = time.monotonic() + grace + WAIT_SECONDS
    place, _, name = path.rpartition("/")
    only = {"fieldSelector": f"metadata.name={name}"}
    pods, version = await list_all(api, place, **only)
    if pods:
        seen(pods[0])
        with contextlib.suppress(NotThereError):
            # Zero would take the object away without asking the kubelet whether its processes are gone.
            await api.delete(path, grace=max(1, math.ceil(grace)), uid=uid)
    while pods and (left := deadline - time.monotonic()) > 0:
        # Where this breaks off, the list tells; it fails where the cluster can't be asked.
        with contextlib.suppress(ProviderError):
            watch = api.watch(place, seconds=math.ceil(left), resourceVersion=version, **only)
            async with contextlib.aclosing(watch) as events:
                async for event in events:
                    if event["type"] == "BOOKMARK":
                        continue
                    seen(event["object"])
                    if event["type"] == "DELETED":
                        return True
        await asyncio.sleep(min(RETRY_SECONDS, left))
        pods, version = await list_all(api, place, **only)
    return not pods


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
