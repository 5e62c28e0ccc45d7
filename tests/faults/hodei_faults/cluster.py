"""Accidents of pods, by the cluster's own API, and what a test looks at meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_client import SYSTEM, Client
from hodei_faults.logs import read
from hodei_providers.contract import ProviderError
from hodei_providers.kubernetes.errors import AlreadyThereError, NotThereError

#: Seconds in which a cluster has done whatever it does, on a busy machine too: a pod may take more than one minute.
PATIENCE = 180.0
#: Runs for long the first time; the attempt that follows ends at once, and well.
LONG_AT_FIRST = ("sh", "-c", "echo attempt $HODEI_ATTEMPT; [ $HODEI_ATTEMPT -gt 1 ] || sleep 600")


def path_of(pod: Mapping[str, Any]) -> str:
    """Return where the API has a pod."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


async def workers_of(api: Any, namespace: str, kind: str = "pods") -> list[Mapping[str, Any]]:
    """Return the pods of a namespace's workers, or their secrets."""
    answer = await api.get(f"/api/v1/namespaces/{namespace}/{kind}", labelSelector="hodei.io/worker-id")
    return list(answer["items"])


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for something to be so; return what it came to."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await condition()):
            await asyncio.sleep(0.1)
    return found


async def remove(api: Any, path: str) -> None:
    """Delete an object that nothing needs any more, also where it is gone already, or about to go."""
    # What a call was not answered in time is made again: it may find its own work done.
    with contextlib.suppress(NotThereError, AlreadyThereError):
        await api.delete(path)


async def nothing_left(api: Any, namespace: str) -> None:
    """Wait for the pods and the secrets of all workers to be gone."""

    async def gone() -> bool:
        return not await workers_of(api, namespace) and not await workers_of(api, namespace, "secrets")

    await until(gone)


async def pod_of(api: Any, namespace: str, job: str) -> Mapping[str, Any]:
    """Wait for the pod of a job's newest attempt."""

    async def found() -> Mapping[str, Any] | None:
        pods = [pod for pod in await workers_of(api, namespace) if pod["metadata"]["labels"].get("hodei.io/job") == job]
        return max(pods, key=lambda pod: int(pod["metadata"]["labels"]["hodei.io/attempt"]), default=None)

    pod: Mapping[str, Any] = await until(found)
    return pod


async def running(client: Client, job: str) -> wire.Job:
    """Wait for a job to run."""

    async def runs() -> wire.Job | None:
        found = await client.get(job)
        return found if found.state == wire.JOB_STATE_RUNNING else None

    job_there: wire.Job = await until(runs)
    return job_there


async def output(client: Client, job: str, stream: int = SYSTEM) -> str:
    """Return one stream of a job's whole log, once it has ended; by default what the server says."""
    return (await read(client, job, stream)).decode()


async def causes(client: Client, job: str) -> list[int]:
    """Return how each attempt of a job ended."""
    return [attempt.outcome.cause for attempt in (await client.get(job)).attempts]


async def until_allowed(api: Any, user: str, verb: str, resource: str, *, namespace: str = "", name: str = "") -> None:
    """Wait for somebody to have a right: rules that were made a moment ago reach the API server's own cache later."""
    attributes = {"verb": verb, "resource": resource, "namespace": namespace, "name": name}
    review = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
    spec = {"user": user, "resourceAttributes": attributes}

    async def is_allowed() -> bool:
        answer = await api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review | {"spec": spec})
        return bool(answer["status"]["allowed"])

    await until(is_allowed)


#: Of the taints that tests put on nodes.
TAINT = "hodei-test.example/emptied"


async def taint(api: Any, node: str) -> None:
    """Drive the pods from a node, as for maintenance."""
    path = f"/api/v1/nodes/{node}"
    there = (await api.get(path))["spec"].get("taints") or []
    await api.merge(path, {"spec": {"taints": [*there, {"key": TAINT, "effect": "NoExecute"}]}})


async def untaint(api: Any) -> None:
    """Take the taint of `taint` from all nodes, also what a test has left that was killed."""
    for node in (await api.get("/api/v1/nodes"))["items"]:
        there = node["spec"].get("taints") or []
        others = [each for each in there if each["key"] != TAINT]
        if others != there:
            await api.merge(f"/api/v1/nodes/{node['metadata']['name']}", {"spec": {"taints": others}})


async def run_command(variable: str) -> None:
    """Run a command that a variable names: it stops a part of the cluster, or starts it again."""
    # Into nothing: what is started keeps what it inherits open.
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_shell(os.environ[variable], stdin=nothing, stdout=nothing, stderr=nothing)
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 0, os.environ[variable]


async def start_again(variable: str, api: Any) -> None:
    """Run the command that a variable names, and wait for the cluster's API to answer."""
    await run_command(variable)

    async def answers() -> bool:
        try:
            return "ok" in await api.text("/readyz")
        except ProviderError:
            return False

    await until(answers)
