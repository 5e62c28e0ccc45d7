"""Health on an address of its own, for probes that hold no certificate."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hodei.v1 import job_pb2, job_pb2_grpc
from hodei_client import Client, ClientSettings
from hodei_server.app import Server

HODEI = str(Path(sys.executable).with_name("hodei"))
States = health_pb2.HealthCheckResponse


async def hodei_health(server: str, *arguments: str) -> tuple[int, str, str]:
    """Run `hodei health`; return its exit code and what it printed."""
    pipe = subprocess.PIPE
    command = (HODEI, "--server", server, "health", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_probes_are_told_of_health_and_can_do_nothing_else(make_settings: Any) -> None:
    """Of the whole and of each service; no other call is served there."""
    async with (
        Server(make_settings(health_listen="127.0.0.1:0"), ephemeral=True) as server,
        aio.insecure_channel(server.health_address.target) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hodei.v1.JobService", "hodei.v1.LogStreamService", "hodei.v1.ProviderService"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == States.SERVING
        jobs: Any = job_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as refused:
            await jobs.ListJobs(job_pb2.ListJobsRequest())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_probes_see_a_drain_before_its_calls_have_ended(make_settings: Any) -> None:
    """A call is still open when the server says that it takes no more."""
    settings = make_settings(health_listen="127.0.0.1:0", drain_timeout="60s")
    server = Server(settings, ephemeral=True)
    await server.__aenter__()
    async with (
        aio.insecure_channel(server.health_address.target) as channel,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", "echo running; exec sleep 600"])
        follow: Any = aiter(client.logs(job))
        await anext(follow)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == States.SERVING
        ending = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await watch.read()).status == States.NOT_SERVING
        code, _, error = await hodei_health(str(server.health_address))
        assert (code, error) == (125, "hodei: the server is not serving\n")
        assert not ending.done()
        await follow.aclose()
    await ending


async def test_hodei_health_says_whether_a_server_serves(server: Server) -> None:
    """0 and a word where it does; 125 and a sentence where there is none, or no such service."""
    assert await hodei_health(str(server.address)) == (0, "serving\n", "")
    assert await hodei_health(str(server.address), "hodei.v1.JobService") == (0, "serving\n", "")
    code, _, error = await hodei_health(str(server.address), "hodei.v1.NoService")
    assert code == 125
    assert f"the server at {server.address} serves no 'hodei.v1.NoService'" in error
    code, _, error = await hodei_health("127.0.0.1:1")
    assert code == 125
    assert "127.0.0.1:1" in error
