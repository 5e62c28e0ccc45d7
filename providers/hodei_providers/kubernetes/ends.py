"""What pods that are gone said last: whether their kubelet has confirmed that the worker has ended."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from hodei_providers.kubernetes.paths import EVERYWHERE, pods_path
from hodei_providers.kubernetes.state import handle_of, has_ended

#: Workers that are remembered: many more than go while one is waited for.
KEPT = 10_000
#: Seconds by which the watch of all pods may be late to tell of one that has gone, and between looks at what it said.
LATE_SECONDS, LOOK_SECONDS = 2.0, 0.05


class Ends:
    """Remembers how pods went: told by the watch of all pods, which misses nothing, and by who removes one.

    Where nobody watches, that a pod has gone is all that is known, and is taken for its end.

    Memory suffices: a pod that went while no server was there is one that nobody has seen end, and `describe` says so.
    The next server waits for its worker as for any that is out of sight, before it asks for its removal.

    :param timeout: seconds from the first try to remove a worker, whose end nobody confirms, to its being given up.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        #: The pod that a worker has, or had last, by its uid, and whether its end is confirmed.
        self._last: dict[str, tuple[str, bool]] = {}
        self._since: dict[str, float] = {}
        self._watches = 0
        #: How many watches tell of a path's pods now.
        self._telling: collections.Counter[str] = collections.Counter()
        #: For those who wait for a pod to go, by its worker.
        self._awaited: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take note that a watch of all pods tells of them meanwhile."""
        self._watches += 1
        try:
            yield
        finally:
            self._watches -= 1

    @contextlib.contextmanager
    def telling(self, path: str) -> Iterator[None]:
        """Take note that meanwhile each pod of a path is told of that goes: a watch goes on from where it was.

        Between two lists nobody may be told how a pod went.
        """
        self._telling[path] += 1
        try:
            yield
        finally:
            self._telling[path] -= 1
            for worker_id in self._awaited:
                self.went(worker_id)

    def are_told(self, namespace: str) -> bool:
        """Whether the pods of a namespace are told of now."""
        return self._telling[EVERYWHERE] > 0 or self._telling[pods_path(namespace)] > 0

    @contextlib.contextmanager
    def awaited(self, worker_id: str) -> Iterator[asyncio.Event]:
        """Give what is set when a worker's pod has gone, or is told of no more."""
        event = asyncio.Event()
        waiting = self._awaited.setdefault(worker_id, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._awaited.pop(worker_id, None)

    def went(self, worker_id: str) -> None:
        """Wake those who wait for a worker's pod to go."""
        for event in self._awaited.get(worker_id, ()):
            event.set()

    def removing(self, worker_id: str) -> None:
        """Take note that a worker is being removed: its server lets it in no more."""
        self._since.setdefault(worker_id, time.monotonic())

    def see(self, pod: Mapping[str, Any]) -> None:
        """Take note of a pod that is going, or gone, as it is now or was last."""
        worker_id, uid = handle_of(pod).worker_id, pod["metadata"]["uid"]
        before, ended = self._last.pop(worker_id, ("", False))
        # Whoever tells of it later may have looked at it earlier: what has ended stays so.
        self._last[worker_id] = uid, has_ended(pod) or (before == uid and ended)
        while len(self._last) > KEPT:
            del self._last[next(iter(self._last))]

    def is_confirmed(self, worker_id: str) -> bool:
        """Whether a worker without a pod is known to have ended."""
        return worker_id in self._last and self._last[worker_id][1]

    async def is_over(self, worker_id: str) -> bool:
        """Whether a worker that is being removed, and has no pod, counts as gone; so does one that was never seen."""
        late = time.monotonic() + LATE_SECONDS
        while self._watches and worker_id in self._last and not self.is_confirmed(worker_id):
            now = time.monotonic()
            if now - self._since.get(worker_id, now) >= self._timeout:
                return True
            if now >= late:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._last.pop(worker_id, None)
        self._since.pop(worker_id, None)
