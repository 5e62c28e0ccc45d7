"""`echo hi` as a job, one at a time and many at once: what providers of containers are measured with."""

from __future__ import annotations

import asyncio
import time

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client
from hodei_providers.agent import PYTHON_COMMAND

ECHO = ("/bin/echo", "hi")
#: What the agent does before it is of any use: the peer does that and nothing more.
IMPORTS = (*PYTHON_COMMAND, "-c", "import sys; sys.path.insert(0, '/opt/hodei-agent/app'); import grpc.aio")


async def one_job(client: Client) -> tuple[float, float]:
    """Submit a job and follow it; return milliseconds until its first line, and until it has ended."""
    began = time.perf_counter()
    job_id = await client.submit(ECHO)
    line = 0.0
    async for event in client.logs(job_id):
        if isinstance(event, Chunk) and event.stream == STDOUT and not line:
            line = (time.perf_counter() - began) * 1e3
    outcome = await client.wait(job_id)
    if outcome.state != wire.JOB_STATE_SUCCEEDED or not line:
        raise RuntimeError(f"job {job_id} ended as {outcome}")
    return line, (time.perf_counter() - began) * 1e3


async def ended(client: Client) -> float:
    """Run one job; return milliseconds until it has ended."""
    return (await one_job(client))[1]


async def burst(client: Client, count: int) -> float:
    """Submit jobs at once and wait for all; return how many a second."""
    began = time.perf_counter()
    ids = await asyncio.gather(*(client.submit(ECHO) for _ in range(count)))
    outcomes = await asyncio.gather(*(client.wait(job_id) for job_id in ids))
    if any(outcome.state != wire.JOB_STATE_SUCCEEDED for outcome in outcomes):
        raise RuntimeError("a job has failed")
    return count / (time.perf_counter() - began)
