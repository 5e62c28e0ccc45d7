"""A node that is lost, or to be emptied: of a cluster of which HODEI_TEST_NODE_STOP and HODEI_TEST_NODE_START are set.

They are commands that stop and start the node's kubelet. All that runs there is harmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import SYSTEM, Client, ClientSettings, LogPlace
from hodei_faults import FaultyProxy
from hodei_faults.cluster import (
    LONG_AT_FIRST,
    causes,
    path_of,
    pod_of,
    run_command,
    running,
    taint,
    untaint,
    until,
)
from hodei_faults.logs import read, until_said
from hodei_providers.kubernetes.errors import NotThereError
from hodei_server.app import Server


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
        await run_command("HODEI_TEST_NODE_STOP")

    yield lose
    await run_command("HODEI_TEST_NODE_START")


async def ready(api: Any, node: str) -> bool:
    """Whether a node is there, and ready."""
    try:
        conditions = (await api.get(f"/api/v1/nodes/{node}"))["status"].get("conditions") or []
    except NotThereError:
        return False
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest.fixture
async def delete_node(
    api: Any, lose_node: Callable[[], Awaitable[None]]
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Return what stops a node's kubelet and deletes the node; it is there again in the end, as it was."""
    before: dict[str, Any] = {}

    async def delete(name: str) -> None:
        path = f"/api/v1/nodes/{name}"
        before[path] = await api.get(path)
        await lose_node()
        await api.delete(path)

    yield delete
    await run_command("HODEI_TEST_NODE_START")
    for path, node in before.items():

        async def is_back(node: Any = node) -> bool:
            return await ready(api, node["metadata"]["name"])

        await until(is_back)
        # A kubelet gives its node no more than its own labels; those of the cluster's state come by themselves.
        there = (await api.get(path))["spec"].get("taints") or []
        lost = [each for each in node["spec"].get("taints") or [] if not each["key"].startswith("node.kubernetes.io/")]
        taints = [*there, *(each for each in lost if each not in there)]
        await api.merge(path, {"metadata": {"labels": node["metadata"]["labels"]}, "spec": {"taints": taints}})


async def taken_away(api: Any, pod: Any) -> None:
    """Wait for a pod to be gone."""

    async def gone() -> bool:
        try:
            await api.get(path_of(pod))
        except NotThereError:
            return True
        return False

    await until(gone)


class Beats:
    """Hears from jobs which attempt they are, as often as they say so: the account of what runs, kept outside."""

    def __init__(self, host: str) -> None:
        self.host, self.port = host, 0
        self.heard: list[str] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note one beat."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.heard.append(request.split()[1].decode().strip("/"))
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    def script(self) -> str:
        """Return what beats without end in the first attempt, once in those that follow."""
        beat = f"wget -qO /dev/null http://{self.host}:{self.port}/$HODEI_ATTEMPT"
        return f"{beat}; [ $HODEI_ATTEMPT -gt 1 ] || while :; do sleep 0.3; {beat}; done"


@pytest.fixture
async def beats(orders: Any) -> AsyncIterator[Beats]:
    """Return what hears jobs."""
    heard = Beats(orders.host)
    server = await asyncio.start_server(heard.take, heard.host, 0)
    heard.port = server.sockets[0].getsockname()[1]
    yield heard
    server.close()


@pytest.fixture
def lose_pod(
    api: Any, lose_node: Callable[[], Awaitable[None]], delete_node: Callable[[str], Awaitable[None]], how: str
) -> Callable[[Any], Awaitable[None]]:
    """Return what takes a pod and its kubelet away, as clusters do in one way or another."""

    async def lose(pod: Any) -> None:
        node = pod["spec"]["nodeName"]
        if how == "with its node":
            # The cluster calls the pod failed, and takes it away by force.
            await delete_node(node)
            await taken_away(api, pod)
            return
        await lose_node()

        async def lost() -> bool:
            return not await ready(api, node)

        await until(lost)
        if how == "by itself":
            return
        # As the cluster does where it has other nodes: the pod ends for ever, while its worker is still heard. By
        # force it is not even there any more.
        await api.delete(path_of(pod), grace=0 if how == "by force" else 1)

    return lose


@pytest.mark.timeout(800)
@pytest.mark.parametrize("how", ["for ever", "by force", "with its node", "by itself"])
async def test_a_job_of_a_lost_node_runs_on_while_it_is_heard_and_again_only_when_it_must_have_ended(
    make_settings: Callable[..., Any],
    api: Any,
    namespace: str,
    beats: Beats,
    lose_pod: Callable[[Any], Awaitable[None]],
    *,
    how: str,
) -> None:
    """W08, W14, W19: the kubelet stops, then the network, too; two attempts of the job never run at once."""
    async with FaultyProxy(("127.0.0.1", 1), host=beats.host) as proxy:
        settings = make_settings(
            orphan_after="15s",
            LOST_NODE_TIMEOUT="20s",
            # By itself: nobody deletes the pod of a lost node, whatever other nodes the cluster has.
            TOLERATION_SECONDS="3600" if how == "by itself" else "1",
            SERVER_ADDRESS=proxy.address,
            LISTEN=beats.host,
        )
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            proxy.target = (beats.host, server.worker_address.port)
            job = await client.submit(["sh", "-c", beats.script()], image="busybox:stable")
            await running(client, job)
            pod = await pod_of(api, namespace, job)

            async def shown() -> bool:
                # A kubelet tells so later than it starts it.
                return bool((await api.get(path_of(pod)))["status"]["phase"] == "Running")

            await until(shown)
            await lose_pod(pod)
            so_far = len(beats.heard)

            async def goes_on() -> bool:
                # For longer than a watch's word of a worker that is connected is held back.
                return len(beats.heard) > so_far + 40

            await until(goes_on)
            assert (await client.get(job)).state == wire.JOB_STATE_RUNNING
            if how == "by itself":
                left = await api.get(path_of(pod))
                assert (left["status"]["phase"], left["metadata"].get("deletionTimestamp")) == ("Running", None)
            proxy.cut()

            async def again() -> bool:
                return len((await client.get(job)).attempts) > 1

            await until(again)
            # By now the first one has ended by itself, on a node where nobody could end it.
            beats.heard.clear()
            proxy.heal()
            await run_command("HODEI_TEST_NODE_START")
            outcome = await client.wait(job)
            assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
            # The cluster may have evicted its pod before it was deleted here, and may place one on a node that has yet
            # a taint, to evict it at once.
            *earlier, last = await causes(client, job)
            assert (set(earlier) <= {wire.CAUSE_WORKER_LOST, wire.CAUSE_EVICTED}, last) == (True, wire.CAUSE_EXIT_CODE)
            assert set(beats.heard).isdisjoint({"1"})
            assert beats.heard
            if how == "by itself":
                assert b"is not ready" in await read(client, job, SYSTEM, place=LogPlace(attempt=1))


@pytest.mark.timeout(800)
async def test_a_kubelet_that_is_back_ends_what_its_deleted_node_ran_and_the_job_runs_again(
    make_settings: Callable[..., Any],
    api: Any,
    namespace: str,
    beats: Beats,
    delete_node: Callable[[str], Awaitable[None]],
) -> None:
    """W08, W14: the node makes itself known again, and knows of no pod; its worker says so, or has been silent."""
    settings = make_settings(orphan_after="15s", LOST_NODE_TIMEOUT="20s")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["sh", "-c", beats.script()], image="busybox:stable")
        await running(client, job)
        pod = await pod_of(api, namespace, job)
        await delete_node(pod["spec"]["nodeName"])
        await taken_away(api, pod)
        assert len((await client.get(job)).attempts) == 1
        assert (await client.get(job)).state == wire.JOB_STATE_RUNNING
        await run_command("HODEI_TEST_NODE_START")

        async def again() -> bool:
            return "2" in beats.heard

        await until(again)
        first = beats.heard.index("2")
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert set(beats.heard[first:]).isdisjoint({"1"})
        *earlier, last = await causes(client, job)
        assert (set(earlier) <= {wire.CAUSE_WORKER_LOST, wire.CAUSE_EVICTED}, last) == (True, wire.CAUSE_EXIT_CODE)


@pytest.mark.usefixtures("lose_node")
async def test_a_job_whose_node_is_tainted_is_evicted_and_waits_for_a_node(
    make_settings: Callable[..., Any], api: Any, namespace: str
) -> None:
    """W02, W08: told as evicted; the next attempt says why it waits, and runs once there is a node for it."""
    async with (
        Server(make_settings(TERMINATION_GRACE="1"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(LONG_AT_FIRST)
        await running(client, job)
        try:
            await taint(api, (await pod_of(api, namespace, job))["spec"]["nodeName"])

            async def waits() -> bool:
                return "untolerated taint" in " ".join((await client.explain(job)).diagnosis)

            await until(waits)
            await until_said(client, job, "untolerated taint")
        finally:
            await untaint(api)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        # So is an attempt that the scheduler places before it has seen the taint.
        *evicted, last = await causes(client, job)
        assert (set(evicted), last) == ({wire.CAUSE_EVICTED}, wire.CAUSE_EXIT_CODE)
