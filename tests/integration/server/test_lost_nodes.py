"""A whole server with a real worker, whose pod is on a node that says nothing any more, of a cluster that is played."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_client import Client, ClientSettings
from hodei_faults import FaultyProxy
from hodei_faults.played_api import playing
from hodei_providers.kubernetes import KubernetesConfig, removal
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
NODES = "/api/v1/nodes"
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {}}}]}
SILENT = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "no word of it"}]}}


class LostNode:
    """A cluster of one node whose pods run for ever, whoever deletes them; the node itself is told of or not.

    :param node: what the API says of it; None to who may not look.
    :ivar pods: by name.
    """

    def __init__(self, node: Mapping[str, Any] | None) -> None:
        self.pods: dict[str, Any] = {}
        self._node = node
        self._secrets: dict[str, Any] = {}
        self._over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def played(self, folder: Path) -> AsyncIterator[KubernetesConfig]:
        """Serve its API; give its configuration."""
        async with playing(self.answer, folder) as config:
            try:
                yield config
            finally:
                self._over.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        path, name = request.path, request.path.rpartition("/")[2]
        if path.startswith(NODES):
            if self._node is None or path == NODES:
                return web.json_response({"message": "you may not"}, status=403)
            return web.json_response(self._node)
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await self._over.wait()
            return response
        if request.method == "POST":
            made = await request.json()
            return web.json_response(made if "dryRun" in request.query else self._make(path, made), status=201)
        if path.endswith("/pods"):
            return web.json_response({"items": [*self.pods.values()], "metadata": {"resourceVersion": "2"}})
        if "/pods/" in path and name in self.pods:
            if request.method == "DELETE":
                self.pods[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return web.json_response(self.pods[name])
        return web.json_response({"message": "there is none"}, status=404)

    def _make(self, path: str, made: dict[str, Any]) -> dict[str, Any]:
        name = made["metadata"]["name"]
        made["metadata"] |= {"uid": name, "resourceVersion": "1"}
        if path.endswith("/secrets"):
            self._secrets[name] = made
        elif path.endswith("/pods"):
            made["spec"]["nodeName"] = "node1"
            self.pods[name] = made | {"status": RUNNING}
        return made

    @contextlib.asynccontextmanager
    async def worker(self, folder: Path) -> AsyncIterator[None]:
        """Run the one worker that there is, as its node does: it ends with this context, and by nobody's word."""
        async with asyncio.timeout(60):
            while not self.pods:
                await asyncio.sleep(0.02)
        ((name, pod),) = self.pods.items()
        variables = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
        token = base64.b64decode(self._secrets[name]["data"]["token"]).decode()
        folder.mkdir()
        del variables["HODEI_OTP_TOKEN_FILE"]
        own = {"HODEI_OTP_TOKEN": token, "HODEI_WORKER_DIR": str(folder), "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hodei_worker",
            env=variables | own,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.kill()
            await process.wait()


def runs(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("node", [None, SILENT], ids=["unreadable", "not ready"])
async def test_a_job_of_a_lost_node_runs_again_once_its_worker_must_have_ended_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: Mapping[str, Any] | None
) -> None:
    """W08, W14: nobody confirms that its pod has ended; whether its node may be looked at makes no difference."""
    monkeypatch.setattr(removal, "WAIT_SECONDS", 0.2)
    cluster, told = LostNode(node), tmp_path / "pid"
    # Thirteen seconds of silence, which begin anew whenever the server itself stands still for two.
    async with asyncio.timeout(100), FaultyProxy() as proxy, cluster.played(tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_address=proxy.address, ensure=False)
        provider = KubernetesProvider(config=config)
        monkeypatch.setattr("hodei_server.opening.load_provider", lambda *_, **__: provider)
        settings = make_settings(providers="kubernetes", lease="1s", orphan_after="3s")
        async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
            proxy.target = (server.worker_address.host, server.worker_address.port)
            job = await client.submit(["sh", "-c", f"echo $$ > {told}.new; mv {told}.new {told}; exec sleep 600"])
            async with cluster.worker(tmp_path / "worker"):
                while not told.exists():
                    await asyncio.sleep(0.02)
                first = int(told.read_text())
                proxy.cut()
                while len((await client.get(job)).attempts) == 1:
                    await asyncio.sleep(0.02)
                assert not runs(first)
            outcome = (await client.get(job)).attempts[0].outcome
            assert "has lost sight of it" in outcome.message
            assert "hodei-worker-" in next(iter(cluster.pods))
