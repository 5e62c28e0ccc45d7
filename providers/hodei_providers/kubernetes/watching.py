"""Pods as they change: a list, a watch from there, and a list again, for ever."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from hodei_providers.contract import Description, ExitReason, ProviderError, WorkerPhase
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.ends import Ends
from hodei_providers.kubernetes.errors import ForbiddenError, GoneError
from hodei_providers.kubernetes.figures import Figures
from hodei_providers.kubernetes.image_user import Readings
from hodei_providers.kubernetes.listing import list_all
from hodei_providers.kubernetes.paths import EVERYWHERE
from hodei_providers.kubernetes.state import Seen, handle_of, made_by, read_deleted, worker_id_of

_log = logging.getLogger("hodei.providers.kubernetes")

#: Seconds between attempts to list when the API can't be reached: from, and at most; with jitter.
RETRY_SECONDS = (0.5, 10.0)


async def pause(failures: int, asked: float = 0.0) -> None:
    """Wait before the API is asked again.

    :param failures: in a row.
    :param asked: seconds that the API asked for; they come before.
    """
    first, most = RETRY_SECONDS
    # The power is bounded: a number that is too large for a float would end the watch.
    back_off = min(most, first * 2.0 ** min(failures, 32))
    await asyncio.sleep(asked + back_off * (0.5 + random.random() / 2))  # noqa: S311 - jitter


class Troubles:
    """Since when workers wait for what may heal.

    :param grace: seconds after which it counts as what will never heal.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def judge(self, seen: Seen) -> Description:
        """Return the description, `permanent` once the trouble has lasted for too long (W01)."""
        worker_id = seen.description.handle.worker_id
        if not seen.trouble:
            self._since.pop(worker_id, None)
            return seen.description
        since = self._since.setdefault(worker_id, time.monotonic())
        if seen.description.permanent or time.monotonic() - since < self._grace:
            return seen.description
        return dataclasses.replace(seen.description, permanent=True)

    def next_due(self) -> float:
        """Return in how many seconds the next one has lasted for too long; without end if there is none."""
        now = time.monotonic()
        return min((since + self._grace - now for since in self._since.values()), default=float("inf"))

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._since.pop(worker_id, None)


class PodWatch:
    """What became of a provider's pods under one path: a namespace, or the whole cluster.

    :param selector: of the installation's.
    :param provider_name: whose pods count; see `made_by`.
    :param holds: whether a pod is where its worker was launched.
    :param figures: counts what is seen.
    :param ends: told of pods that are gone.
    :param readings: tells where workers are, by their pods.
    :param listed: called with all pods after each full list.
    :param resync: returns the seconds from one full list to the next.
    :param waiting: called with a worker that can't start yet, whenever the reason is another one.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        selector: str,
        troubles: Troubles,
        figures: Figures,
        *,
        provider_name: str,
        holds: Callable[[Mapping[str, Any]], bool],
        ends: Ends,
        readings: Readings,
        resync: Callable[[], float],
        listed: Callable[[Sequence[Mapping[str, Any]]], Awaitable[None]],
        waiting: Callable[[Description], None],
    ) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._provider_name = provider_name
        self._holds = holds
        self._troubles = troubles
        self._figures = figures
        self._ends = ends
        self._readings = readings
        self._resync = resync
        self._listed = listed
        self._waiting = waiting
        #: The pods of the last list, as the watch has changed them since, by worker id.
        self._pods: dict[str, Mapping[str, Any]] = {}
        self._told: dict[str, tuple[WorkerPhase, ExitReason, bool]] = {}
        self._reasons: dict[str, str] = {}
        #: Of the last list, by their uids, the pods that have a worker's labels and are no worker's.
        self._strangers: set[str] = set()

    async def descriptions(self) -> AsyncIterator[Description]:
        """Yield workers that have ended, are gone, or will never start; each of these once.

        A watch that breaks goes on from where it was; one that can't (W10), or that is older than `resync` says,
        begins anew with a full list, which finds what the watch has missed (W09). The API not answering is waited out.

        :raise ForbiddenError: the whole cluster may not be watched, or not any more; of a namespace that is waited out.
        """
        failures = 0
        with self._ends.watching():
            while True:
                try:
                    async for description in self._round():
                        failures = 0
                        yield description
                    failures = 0
                except ProviderError as error:
                    if isinstance(error, ForbiddenError) and self._path == EVERYWHERE:
                        raise
                    failures += 1
                    # That a watch has grown too old is no outage, if a new one has not.
                    if failures > 1 or not isinstance(error, GoneError):
                        await pause(failures, error.retry_after)

    async def _round(self) -> AsyncIterator[Description]:
        under_way = self._readings.under_way()
        await self._api.watches.turn()
        listed, version = await list_all(self._api, self._path, labelSelector=self._selector)
        pods = self._own(listed)
        await self._listed(pods)
        there = {handle_of(pod).worker_id: pod for pod in pods}
        for worker_id in self._pods.keys() - there.keys():
            if worker_id in under_way:
                there[worker_id] = self._pods[worker_id]  # it is about to come back
                continue
            for description in self._gone(worker_id, self._pods[worker_id]):
                yield description
        self._pods = there
        for pod in pods:
            for description in self._news(pod):
                yield description
        end = time.monotonic() + self._resync()
        with self._ends.telling(self._path):
            while (left := end - time.monotonic()) >= 1.0:
                due = time.monotonic() + max(1.0, min(left, self._troubles.next_due()))
                query = {"labelSelector": self._selector, "resourceVersion": version}
                events = self._api.watch(self._path, seconds=math.ceil(due - time.monotonic()), **query)
                async with contextlib.aclosing(events):
                    async for event in events:
                        version = event["object"]["metadata"]["resourceVersion"]
                        for description in self._changed(event):
                            yield description
                        if time.monotonic() + self._troubles.next_due() < due - 1.0:
                            break  # something is to be judged before this watch would end
                for pod in list(self._pods.values()):
                    for description in self._news(pod):
                        yield description

    def _own(self, listed: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return the pods of this provider's workers; each other that has their labels is told of once."""
        labelled = [pod for pod in listed if made_by(pod, self._provider_name)]
        strangers = {pod["metadata"]["uid"]: pod for pod in labelled if not self._is_workers(pod)}
        for uid in strangers.keys() - self._strangers:
            metadata = strangers[uid]["metadata"]
            what = "namespace" if worker_id_of(strangers[uid]) else "name"
            where = f"{metadata['namespace']}/{metadata['name']}"
            _log.warning("pod %s has the labels of a worker's pod and not the %s: it is left alone", where, what)
        self._strangers = set(strangers)
        return [pod for pod in labelled if self._is_workers(pod)]

    def _is_workers(self, pod: Mapping[str, Any]) -> bool:
        """Whether a pod is a worker's, by its name and by where it is; else it is somebody's copy of one."""
        return bool(worker_id_of(pod)) and self._holds(pod)

    def _changed(self, event: Mapping[str, Any]) -> list[Description]:
        pod = event["object"]
        if event["type"] == "BOOKMARK" or not made_by(pod, self._provider_name) or not self._is_workers(pod):
            return []
        worker_id = worker_id_of(pod)
        if event["type"] == "DELETED":
            if self._readings.is_replaced(pod):
                return []  # the full list finds out if nothing comes in its place
            self._pods.pop(worker_id, None)
            return self._gone(worker_id, pod)
        self._pods[worker_id] = pod
        return self._news(pod)

    def _news(self, pod: Mapping[str, Any]) -> list[Description]:
        self._figures.see(pod)
        seen = self._readings.read(pod)
        description = self._troubles.judge(seen)
        worker_id = description.handle.worker_id
        stuck = seen.trouble or description.reason is ExitReason.UNSCHEDULABLE
        if stuck and self._reasons.get(worker_id) != description.message:
            self._reasons[worker_id] = description.message
            self._waiting(description)
        if description.phase is not WorkerPhase.EXITED and not description.permanent:
            return []
        return self._tell(description)

    def _gone(self, worker_id: str, pod: Mapping[str, Any]) -> list[Description]:
        self._ends.see(pod)
        self._ends.went(worker_id)
        found = self._tell(read_deleted(pod))
        self._told.pop(worker_id, None)
        self._reasons.pop(worker_id, None)
        self._troubles.forget(worker_id)
        self._figures.gone(worker_id)
        return found

    def _tell(self, description: Description) -> list[Description]:
        worker_id = description.handle.worker_id
        key = (description.phase, description.reason, description.unconfirmed)
        if self._told.get(worker_id) == key:
            return []
        self._told[worker_id] = key
        self._figures.told(description)
        return [description]
