"""Nodes that are lost: their pods say that they run for minutes, and that they end for ever."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from hodei_providers.contract import Description, ProviderError, WorkerPhase
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import NotThereError


class Nodes:
    """Judges pods by their nodes, where the server may read those.

    :param timeout: seconds from the first try to remove a worker of a lost node to its being given up.
    """

    def __init__(self, api: Api, timeout: float) -> None:
        self._api = api
        self._timeout = timeout
        self._since: dict[str, float] = {}

    async def judge(self, pod: Mapping[str, Any], said: Description) -> Description:
        """Return what is known of a worker, by what its pod says and by what its node does.

        Of a pod that is to end, and whose node is not known to be ready, nobody can say whether its worker runs.
        """
        ending = said.phase is not WorkerPhase.EXITED and bool(pod["metadata"].get("deletionTimestamp"))
        if said.phase is not WorkerPhase.RUNNING and not ending:
            return said
        lost = await self.lost(pod)
        message = lost if lost and said.phase is WorkerPhase.RUNNING else said.message
        return dataclasses.replace(said, message=message, unconfirmed=ending and lost != "")

    async def lost(self, pod: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a pod's node.

        :return: empty while that is ready, or there is none; None where nobody can say: it may not be read, or the API
            is away.
        """
        name = pod["spec"].get("nodeName", "")
        if not name:
            return ""
        try:
            node = await self._api.get(f"/api/v1/nodes/{name}")
        except NotThereError:
            return f"node {name} is not there any more"
        except ProviderError:
            return None
        conditions = {each["type"]: each for each in node["status"].get("conditions") or []}
        ready: Mapping[str, Any] = conditions.get("Ready", {})
        if ready.get("status") == "True":
            return ""
        return f"node {name} is not ready: {ready.get('message') or ready.get('reason') or 'nothing is known of it'}"

    async def lost_for_good(self, worker_id: str, pod: Mapping[str, Any]) -> bool:
        """Whether a worker that is being removed is on a node that has been lost for longer than the timeout."""
        if not await self.lost(pod):
            self._since.pop(worker_id, None)
            return False
        return time.monotonic() - self._since.setdefault(worker_id, time.monotonic()) >= self._timeout

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone."""
        self._since.pop(worker_id, None)
