"""A node that is lost: HODEI_TEST_NODE_STOP and HODEI_TEST_NODE_START are commands that stop and start its kubelet."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hodei_providers.contract import WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.testing import INSTALLATION, make_request, until


async def run(variable: str) -> None:
    """Run a command that a variable names."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(os.environ[variable]), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.fixture
async def lose_node(worker_image: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Return what stops the node's kubelet; it is started again in the end."""
    assert worker_image
    if not {"HODEI_TEST_NODE_STOP", "HODEI_TEST_NODE_START"} <= os.environ.keys():
        message = "HODEI_TEST_NODE_STOP and HODEI_TEST_NODE_START are not set"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)

    async def lose() -> None:
        await run("HODEI_TEST_NODE_STOP")

    yield lose
    await run("HODEI_TEST_NODE_START")


async def ready(api: Any, node: str) -> bool:
    """Whether a node is ready."""
    conditions = (await api.get(f"/api/v1/nodes/{node}"))["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest.mark.timeout(300)
async def test_workers_of_a_lost_node_count_as_gone_only_after_their_time(
    api: Any, played: KubernetesConfig, lose_node: Callable[[], Awaitable[None]]
) -> None:
    """W08: their pods say that they run, and then that they end for ever; the node is what is asked."""
    async with KubernetesProvider(config=dataclasses.replace(played, lost_node_timeout=10.0)) as provider:
        handle = await provider.launch(make_request())
        await until(provider, handle, WorkerPhase.RUNNING)
        node = (await api.get(f"/api/v1/namespaces/{played.namespace}/pods/{handle.data['pod']}"))["spec"]["nodeName"]
        await lose_node()
        async with asyncio.timeout(120):
            while await ready(api, node):
                await asyncio.sleep(0.5)
        description = await provider.describe(handle)
        assert description.phase is WorkerPhase.RUNNING
        assert f"node {node} is not ready" in description.message
        assert not await provider.destroy(handle), "nobody has confirmed that its processes are gone"
        async with asyncio.timeout(90):
            while not await provider.destroy(handle):
                pass
        assert await provider.list(INSTALLATION) == []
        await run("HODEI_TEST_NODE_START")
        async with asyncio.timeout(90):
            while not await ready(api, node):
                await asyncio.sleep(0.5)
