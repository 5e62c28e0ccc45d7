"""A job's log, as tests look at it."""

from __future__ import annotations

import asyncio

from hodei_client import STDOUT, SYSTEM, Chunk, Client, LogPlace


async def read(client: Client, job: str, stream: int = STDOUT, *, place: LogPlace | None = None) -> bytes:
    """Return what is in one stream of a job's log, followed to its end."""
    events = client.logs(job, place=place)
    return b"".join([event.data async for event in events if isinstance(event, Chunk) and event.stream == stream])


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
