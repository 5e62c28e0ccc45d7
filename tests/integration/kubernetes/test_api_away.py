"""The cluster's API stops under running jobs: HODEI_TEST_API_STOP and HODEI_TEST_API_START are commands that do it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client
from hodei_faults.cluster import (
    causes,
    nothing_left,
    output,
    pod_of,
    run_command,
    running,
    start_again,
    until,
    workers_of,
)
from hodei_faults.needs import lacks

#: Seconds that the API is away for.
AWAY = 60


@pytest.fixture
async def stop_api(api: Any) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Return what stops the API; it is started again in the end, and answers."""
    if not {"HODEI_TEST_API_STOP", "HODEI_TEST_API_START"} <= os.environ.keys():
        lacks("HODEI_TEST_API_STOP and HODEI_TEST_API_START are not set")

    async def stop() -> None:
        await run_command("HODEI_TEST_API_STOP")

    yield stop
    await start_again("HODEI_TEST_API_START", api)


async def test_the_api_may_be_away_for_a_minute_under_running_jobs(
    client: Client, api: Any, namespace: str, orders: Any, stop_api: Callable[[], Awaitable[None]]
) -> None:
    """W08, W14, W28, W36: running jobs go on and end, logs stream, new jobs wait and say why; each job runs once."""
    # It ends at a word, for nobody knows how long it takes until the API is away.
    word = f"wget -qO /dev/null http://{orders.host}:{orders.port}/ends"
    script = f"for n in $(seq 1 30); do echo $n; done; {word}; echo $HODEI_ATTEMPT"
    ends = await client.submit(["sh", "-c", script], image="busybox:stable")
    outlives = await client.submit(["sh", "-c", "while :; do echo one more; sleep 0.5; done"])
    await running(client, ends)
    await running(client, outlives)
    pods = {job: (await pod_of(api, namespace, job))["metadata"]["uid"] for job in (ends, outlives)}
    await stop_api()
    back = asyncio.get_running_loop().time() + AWAY

    # Logs stream while it is away.
    lines = 0
    async for event in client.logs(outlives):
        lines += event.data.count(b"\n") if isinstance(event, Chunk) and event.stream == STDOUT else 0
        if lines >= 20:
            break
    waits = await client.submit(["echo", "hello"], providers=["kubernetes"])

    async def told() -> bool:
        verdict = (await client.explain(waits)).providers[0]
        return "can't be reached" in verdict.reason

    await until(told)
    found = await client.provider("kubernetes")
    assert not found.healthy, found
    assert "can't be reached" in found.health_message
    # A job that ends meanwhile is over for its user; only its pod waits for somebody to remove it.
    orders.code("ends").set_result(0)
    outcome = await client.wait(ends)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
    assert (await client.get(outlives)).state == wire.JOB_STATE_RUNNING
    assert (await client.get(waits)).state in {wire.JOB_STATE_QUEUED, wire.JOB_STATE_STARTING}
    await asyncio.sleep(max(0.0, back - asyncio.get_running_loop().time()))
    await start_again("HODEI_TEST_API_START", api)

    assert (await client.wait(waits)).state == wire.JOB_STATE_SUCCEEDED
    assert await output(client, waits, STDOUT) == "hello\n"
    assert (await client.get(outlives)).state == wire.JOB_STATE_RUNNING
    there = {pod["metadata"]["uid"] for pod in await workers_of(api, namespace)}
    assert pods[outlives] in there
    await client.cancel(outlives)
    assert (await client.wait(outlives)).state == wire.JOB_STATE_CANCELLED
    for job in (ends, outlives):
        assert len((await client.get(job)).attempts) == 1
    # What was tried while the API was away has made no pod, then or later.
    tried = [f"hodei-worker-{attempt.worker_id}" for attempt in (await client.get(waits)).attempts]

    async def told_of() -> set[tuple[str, str]]:
        # Of the last one there are events, though perhaps not yet: who noted something meanwhile has more to tell.
        events = (await api.get(f"/api/v1/namespaces/{namespace}/events"))["items"]
        about = [event["involvedObject"] for event in events]
        found = {(each["name"], each["uid"]) for each in about if each["name"] in tried}
        return found if tried[-1] in {name for name, _ in found} else set()

    assert [name for name, _ in await until(told_of)] == tried[-1:]
    assert await causes(client, waits) == [wire.CAUSE_PROVIDER_ERROR] * (len(tried) - 1) + [wire.CAUSE_EXIT_CODE]
    numbers = [str(number) for number in range(1, 31)]
    assert (await output(client, ends, STDOUT)).split() == [*numbers, "1"]
    assert (await client.receipt(ends)).complete
    await nothing_left(api, namespace)
