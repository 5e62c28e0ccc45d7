"""A job's pipes on their way into an outbox."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_worker.outbox import Outbox, Spool
from hodei_worker.output import Output, open_pipe

PATIENCE = 0.2


async def test_a_server_that_falls_silent_keeps_a_job_waiting_for_no_more_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L28: whatever it acknowledged last, the pipes are read on, and the rest goes into the file."""
    monkeypatch.setattr("hodei_worker.outbox.BLOCK_BYTES", 64)
    for module in ("outbox", "output"):
        monkeypatch.setattr(f"hodei_worker.{module}.PATIENCE", PATIENCE)
    outbox = Outbox(0, Spool(tmp_path / "spool"), memory_limit=64 << 10, spool_limit=1 << 20)
    output = Output(outbox, lambda: None, lambda: 0)
    places = []
    for _ in range(2):
        output.say("x" * 100)
        block = outbox.take()
        assert block is not None
        places.append(block.next_sequence)
    reading, writing = open_pipe()
    for place in places:
        # Each says that the server keeps up, and makes too little room to read on.
        outbox.acknowledge(place)
        output.resume()
        if place == places[0]:
            output.follow(reading, wire.LOG_STREAM_STDOUT)
            written = os.write(writing, b"x" * (256 << 10))
            os.close(writing)
            while not outbox.full and outbox.size < written:
                await asyncio.sleep(0)
            await asyncio.sleep(PATIENCE / 2)
    async with asyncio.timeout(30):
        assert await output.drain(20.0)
    assert outbox.size == written + 2 * 101
    outbox.close()
