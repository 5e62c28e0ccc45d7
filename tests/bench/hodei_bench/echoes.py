"""Small jobs, one at a time and many at once: what providers of containers are measured with."""

from __future__ import annotations

import asyncio
import time

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client
from hodei_providers.agent import PYTHON_COMMAND

ECHO = ("/bin/echo", "hi")
#: What the agent does before it is of any use: the peer does that and nothing more.
IMPORTS = (*PYTHON_COMMAND, "-c", "import sys; sys.path.insert(0, '/opt/hodei-agent/app'); import grpc.aio")
#: Of each log that `whole_logs` compares, between its first and its last.
LINES = 2000


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


async def whole_logs(client: Client, count: int) -> float:
    """Submit jobs at once that each write a log of their own, and compare all of them; return how many a second."""
    began = time.perf_counter()
    script = f"echo begin $0; seq 1 {LINES}; echo end $0"
    ids = [await client.submit(["sh", "-c", script, str(number)]) for number in range(count)]
    outcomes = await asyncio.gather(*(client.wait(job_id) for job_id in ids))
    took = time.perf_counter() - began
    numbers = "".join(f"{line}\n" for line in range(1, LINES + 1))
    for number, job_id in enumerate(ids):
        events = client.logs(job_id)
        data = b"".join([each.data async for each in events if isinstance(each, Chunk) and each.stream == STDOUT])
        if data.decode() != f"begin {number}\n{numbers}end {number}\n":
            raise RuntimeError(f"the log of job {job_id} is not whole")
        if outcomes[number].state != wire.JOB_STATE_SUCCEEDED or not (await client.receipt(job_id)).complete:
            raise RuntimeError(f"job {job_id} ended as {outcomes[number]}")
    return count / took
