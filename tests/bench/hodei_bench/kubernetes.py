"""Jobs as pods, beside bare pods of the same image that are made and watched through the API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator

from hodei_bench.docker import IMAGE
from hodei_bench.echoes import ECHO, IMPORTS, burst, ended, one_job, whole_logs
from hodei_bench.harness import Result, Setup, bench, repeat
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.api import Api

#: Pods under way at once, Hodei's and the peers' alike.
AT_ONCE = 8
#: Of the node, for each; a hundred find room on a small one.
ASKED = {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"}


class BarePods:
    """Pods of a namespace, made and watched through the API; nothing more is done than that takes.

    :param command: what each runs.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._ends: dict[str, asyncio.Future[str]] = {}

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[BarePods]:
        """Watch them until the block is left: one watch for all."""
        version = (await self._api.get(self._path, limit="1"))["metadata"]["resourceVersion"]
        watching = asyncio.create_task(self._watch(version))
        try:
            yield self
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, version: str) -> None:
        async for event in self._api.watch(self._path, seconds=3600, labelSelector="bare", resourceVersion=version):
            name, phase = event["object"]["metadata"].get("name"), event["object"].get("status", {}).get("phase")
            end = self._ends.get(name)
            if end is not None and not end.done() and phase in {"Succeeded", "Failed"}:
                end.set_result(phase)

    async def one(self, command: tuple[str, ...]) -> float:
        """Make a pod and wait for its end, then delete it; return milliseconds from the one to the other."""
        name = f"bare-{secrets.token_hex(6)}"
        self._ends[name] = asyncio.get_running_loop().create_future()
        context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"bare": "true"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "a",
                        "image": IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "command": list(command),
                        "resources": {"requests": ASKED},
                        "securityContext": context,
                    }
                ],
            },
        }
        began = time.perf_counter()
        await self._api.create(self._path, pod)
        phase = await self._ends[name]
        took = (time.perf_counter() - began) * 1e3
        await self._api.delete(f"{self._path}/{name}", grace=0)
        del self._ends[name]
        if phase != "Succeeded":
            raise RuntimeError(f"a pod has ended as {phase}")
        return took

    async def many(self, command: tuple[str, ...], count: int) -> float:
        """Run so many, `AT_ONCE` at a time; return how many a second."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with slots:
                await self.one(command)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Api, str]]:
    """Return a cluster and a namespace of the bench's own, which goes in the end with all that is in it."""
    name = f"hodei-bench-{secrets.token_hex(4)}"
    async with Api(KubernetesConfig(api_rate=1000)) as api:
        path = "/api/v1/namespaces"
        await api.create(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield api, name
        finally:
            await api.delete(f"{path}/{name}")


def settings_of(namespace: str) -> dict[str, str]:
    """Return the settings of a server whose workers are small pods of a namespace."""
    return {
        "providers": "kubernetes",
        "worker_image": IMAGE,
        "HODEI_K8S_NAMESPACE": namespace,
        "HODEI_K8S_MAX_PODS": str(AT_ONCE),
        "HODEI_K8S_DEFAULT_CPU_REQUEST": ASKED["cpu"],
        "HODEI_K8S_DEFAULT_MEMORY_REQUEST": ASKED["memory"],
        "HODEI_K8S_DEFAULT_STORAGE_REQUEST": ASKED["ephemeral-storage"],
    }


@bench("kubernetes")
async def kubernetes(setup: Setup) -> list[Result]:
    """Jobs as pods: how long one takes, and how many in a second."""
    if os.environ.get("HODEI_K8S_TEST", "").lower() not in {"1", "true"} and not os.environ.get("CI"):
        sys.stderr.write("kubernetes: left out: HODEI_K8S_TEST is not set: no cluster to measure on\n")
        return []
    times, count, rounds, many = (2, 8, 1, 0) if setup.short else (9, 24, 3, 100)
    async with cluster() as (api, namespace):
        settings = settings_of(namespace)
        async with setup.server(**settings) as server, server.client() as client:
            await one_job(client)  # what the server makes for its workers is there now
            async with BarePods(api, namespace).watched() as bare:
                await bare.one(ECHO)
                # By turns: what else the machine does falls on both alike.
                lines, ends, bare_ends = [], [], []
                for _ in range(times):
                    line, end = await one_job(client)
                    lines.append(line)
                    ends.append(end)
                    bare_ends.append(await bare.one(ECHO))
                rates, imports, bare_rates = [], [], []
                for _ in range(rounds):
                    rates.append(await burst(client, count))
                    imports.append(await bare.many(IMPORTS, count))
                    bare_rates.append(await bare.many(("/bin/true",), count))
                if setup.profiler is not None:
                    async with setup.profiled("kubernetes", server, "pod", count):
                        await burst(client, count)
        at_once = 0.0
        if many:
            async with (
                setup.server(**settings | {"HODEI_K8S_MAX_PODS": str(many)}) as server,
                server.client() as client,
            ):
                at_once = await whole_logs(client, many)
        async with setup.server(**settings, worker_max_jobs="0") as server, server.client() as client:
            for _ in range(3):
                await one_job(client)
            warm = await repeat(30, lambda: ended(client))
    peer, bare_end = "a bare pod of the same image, made until seen to have ended", statistics.median(bare_ends)
    results = [
        Result("kubernetes.first-line", statistics.median(lines), "ms", peer=bare_end, peer_name=peer, aim=bare_end),
        Result("kubernetes.finished", statistics.median(ends), "ms", peer=bare_end, peer_name=peer, aim=bare_end),
        Result("kubernetes.warm", warm, "ms", aim=50, note="a pod that waits, submit to finished"),
        Result(
            "kubernetes.rate",
            statistics.median(rates),
            "jobs/s",
            more_is_better=True,
            peer=statistics.median(imports),
            peer_name="bare pods that import grpc",
            aim=0.9,
            aim_of="ratio",
            note=f"{count} jobs, {AT_ONCE} pods at once",
        ),
        Result(
            "kubernetes.bare-rate",
            statistics.median(bare_rates),
            "jobs/s",
            more_is_better=True,
            note="a limit: /bin/true",
        ),
    ]
    if many:
        note = f"{many} jobs at once, each log compared line by line"
        results.append(Result("kubernetes.at-once", at_once, "jobs/s", more_is_better=True, note=note))
    return results
