"""What pods that are gone said last: whether their kubelet has confirmed that the worker has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hodei_providers.kubernetes.state import handle_of, has_ended

#: Workers that are remembered: many more than go while one is waited for.
KEPT = 10_000


class Ends:
    """Remembers how pods went.

    :param timeout: seconds from the first try to remove a worker, whose end nobody confirms, to its being given up.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._confirmed: dict[str, bool] = {}
        self._since: dict[str, float] = {}

    def removing(self, worker_id: str) -> None:
        """Take note that a worker is being removed: its server lets it in no more."""
        self._since.setdefault(worker_id, time.monotonic())

    def see(self, pod: Mapping[str, Any]) -> None:
        """Take note of a pod that is going, or gone, as it is now or was last."""
        worker_id = handle_of(pod).worker_id
        self._confirmed.pop(worker_id, None)
        self._confirmed[worker_id] = has_ended(pod)
        while len(self._confirmed) > KEPT:
            del self._confirmed[next(iter(self._confirmed))]

    def is_confirmed(self, worker_id: str) -> bool:
        """Whether a worker without a pod is known to have ended."""
        return self._confirmed.get(worker_id, False)

    def is_over(self, worker_id: str) -> bool:
        """Whether a worker that is being removed, and has no pod, counts as gone; so does one that was never seen."""
        now = time.monotonic()
        return self._confirmed.get(worker_id, True) or now - self._since.get(worker_id, now) >= self._timeout

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._confirmed.pop(worker_id, None)
        self._since.pop(worker_id, None)
