"""GPUs on a real cluster, whose node says to have one: a resource that no other pod asks for stands in for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, PreconditionError
from hodei_faults.cluster import pod_of, running, until
from hodei_server.app import Server


@pytest.fixture
async def gpu(api: Any, namespace: str) -> AsyncIterator[str]:
    """Return the name of a resource that a node has one of, for this test alone."""
    name = f"hodei-test.example/{namespace}"
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]["name"]
    status = f"/api/v1/nodes/{node}/status"
    await api.merge(status, {"status": {"capacity": {name: "1"}, "allocatable": {name: "1"}}})
    yield name
    await api.merge(status, {"status": {"capacity": {name: None}, "allocatable": {name: None}}})


async def test_a_job_gets_the_gpu_that_it_asks_for_and_others_are_told_by_name_what_there_is_not(
    make_settings: Callable[..., Any], api: Any, namespace: str, gpu: str
) -> None:
    """W02, W38: it runs with it, who comes second waits until it is let go, and no node has one of another type."""
    settings = make_settings(GPU_RESOURCES=f"default={gpu},large={gpu}-large", TERMINATION_GRACE="1")
    one = wire.Resources(gpu_count=1)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        first = await client.submit(["sleep", "600"], resources=one)
        await running(client, first)
        pod = await pod_of(api, namespace, first)
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["requests"][gpu] == container["resources"]["limits"][gpu] == "1"
        toleration = {"key": gpu, "operator": "Exists", "effect": "NoSchedule"}
        assert toleration in pod["spec"]["tolerations"]
        second = await client.submit(["true"], resources=one)
        large = await client.submit(
            ["true"],
            resources=wire.Resources(gpu_count=1, gpu_type="large"),
            start_timeout=30,
            retry=wire.RetryPolicy(max_infrastructure_retries=0),
        )
        outcome = await client.wait(large)
        assert outcome.cause == wire.CAUSE_UNSCHEDULABLE, outcome
        assert f"Insufficient {gpu}-large" in outcome.message

        async def waits() -> bool:
            # With a dot or a comma after it: the other type's name begins alike.
            words = str(await client.explain(second))
            return any(f"Insufficient {gpu}{end}" in words for end in ".,")

        await until(waits)
        await client.cancel(first, force=True)
        assert (await client.wait(second)).state == wire.JOB_STATE_SUCCEEDED
        with pytest.raises(PreconditionError, match=r"resources\.gpu_type: .*huge"):
            await client.submit(["true"], resources=wire.Resources(gpu_count=1, gpu_type="huge"))
