"""A job's log, as tests look at it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hodei_client import STDOUT, SYSTEM, Chunk, Client, LogPlace


async def read(client: Client, job: str, stream: int = STDOUT, *, place: LogPlace | None = None) -> bytes:
    """Return what is in one stream of a job's log, followed to its end."""
    events = client.logs(job, place=place)
    return b"".join([event.data async for event in events if isinstance(event, Chunk) and event.stream == stream])


async def print_in_parts(client: Client, folder: Path, parts: int) -> str:
    """Run a job that prints 30,000 lines again and again, each time once all before is durable; return the job.

    :param folder: takes what tells the job of that.
    """
    script = 'i=0; while [ $i -lt $1 ]; do i=$((i + 1)); seq 30000; until [ -e "$0/$i" ]; do sleep 0.02; done; done'
    job = await client.submit(["sh", "-c", script, str(folder), str(parts)])
    lines = 0
    async for event in client.logs(job):
        if isinstance(event, Chunk):
            lines += event.data.count(b"\n")
            if lines % 30_000 == 0:
                (folder / str(lines // 30_000)).touch()
    await client.wait(job)
    return job


async def until_said(client: Client, job: str, words: str, stream: int = SYSTEM) -> None:
    """Wait for a job's log to have some words in one stream; by default of what the server says."""
    said = b""
    # What is said of a pod's start may take as long as that.
    async with asyncio.timeout(180):
        async for event in client.logs(job):
            said += event.data if isinstance(event, Chunk) and event.stream == stream else b""
            if words.encode() in said:
                return
    raise AssertionError(f"the log has ended without {words!r}: {said!r}")
