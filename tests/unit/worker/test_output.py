"""A job's pipes on their way into an outbox."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_worker.outbox import Outbox, Spool
from hodei_worker.output import READ_BYTES, Output, open_pipe
from hodei_worker.redaction import Redaction

PATIENCE = 0.2


async def test_a_server_that_falls_silent_keeps_a_job_waiting_for_no_more_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L28: whatever it acknowledged last, the pipes are read on, and the rest goes into the file."""
    monkeypatch.setattr("hodei_worker.outbox.BLOCK_BYTES", 64)
    for module in ("outbox", "output"):
        monkeypatch.setattr(f"hodei_worker.{module}.PATIENCE", PATIENCE)
    outbox = Outbox(0, Spool(tmp_path / "spool", 1 << 20), memory_limit=64 << 10)
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


async def test_a_job_that_waits_again_and_again_is_looked_after_by_one_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L14: one that writes faster than its server takes it waits after each acknowledgement, and leaves none behind."""
    monkeypatch.setattr("hodei_worker.outbox.BLOCK_BYTES", 64)
    monkeypatch.setattr("hodei_worker.output.PATIENCE", 3600.0)
    outbox = Outbox(0, Spool(tmp_path / "spool", 0), memory_limit=64 << 10)
    output = Output(outbox, lambda: None, lambda: 0)
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def recorded(delay: float, callback: Any, *arguments: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, callback, *arguments)
        if callback == output._look_again:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", recorded)
    reading, writing = open_pipe()
    output.follow(reading, wire.LOG_STREAM_STDOUT)
    async with asyncio.timeout(30):
        for _ in range(20):
            os.write(writing, b"x" * (64 << 10))
            while not output._paused:
                await asyncio.sleep(0)
            while (block := outbox.take()) is not None:
                outbox.acknowledge(block.next_sequence)
            output.resume()
    assert len(timers) == 20
    assert sum(not timer.cancelled() for timer in timers) == 1
    os.close(writing)
    output.close()
    outbox.close()


def chunks_in(outbox: Outbox) -> list[wire.LogChunk]:
    """Return the chunks that wait to be sent."""
    chunks: list[wire.LogChunk] = []
    while (block := outbox.take()) is not None:
        chunks += wire.LogBlock.FromString(block.data).chunks
    return chunks


async def test_secrets_are_taken_out_of_each_stream_by_itself(tmp_path: Path) -> None:
    """L23: what one stream has begun the other doesn't end; what is held is given out with the stream's end."""
    secret = b"pa55word-of-a-job"
    outbox = Outbox(0, Spool(tmp_path / "spool", 1 << 20), memory_limit=1 << 20)
    output = Output(outbox, lambda: None, lambda: 0, Redaction([secret]))
    writers = []
    for stream in (wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR):
        reading, writing = open_pipe()
        output.follow(reading, stream)
        writers.append(writing)
    stdout, stderr = writers
    async with asyncio.timeout(60):
        os.write(stdout, b"out " + secret[:5])
        while not outbox.size:
            await asyncio.sleep(0)
        assert outbox.size == len(b"out ")
        os.write(stderr, secret[5:] + b" err\n")
        while outbox.size < len(b"out " + secret[5:] + b" err\n"):
            await asyncio.sleep(0)
        os.write(stdout, secret[5:] + b" then " + secret[:-1])
        for descriptor in writers:
            os.close(descriptor)
        assert await output.drain(20.0)
    output.say(f"the secret is {secret.decode()}")
    sent: dict[int, bytes] = {}
    for chunk in chunks_in(outbox):
        sent[chunk.stream] = sent.get(chunk.stream, b"") + chunk.data
    assert sent[wire.LOG_STREAM_STDOUT] == b"out *** then " + secret[:-1]
    assert sent[wire.LOG_STREAM_STDERR] == secret[5:] + b" err\n"
    assert sent[wire.LOG_STREAM_SYSTEM] == b"the secret is ***\n"
    outbox.close()


async def test_held_output_comes_in_chunks_that_are_not_too_large_and_whole_where_a_pipe_is_left_open(
    tmp_path: Path,
) -> None:
    """L01, L23: of a pipe that a process keeps open all that was written is there, what was held included."""
    secret = b"x" * 60_000 + b"y"
    outbox = Outbox(0, Spool(tmp_path / "spool", 1 << 20), memory_limit=1 << 20)
    output = Output(outbox, lambda: None, lambda: 0, Redaction([secret]))
    reading, writing = open_pipe()
    output.follow(reading, wire.LOG_STREAM_STDOUT)
    written = b"x" * 200_000 + b"end"
    os.write(writing, written)
    assert not await output.drain(0.0)
    await output.take_rest()
    os.close(writing)
    chunks = [chunk.data for chunk in chunks_in(outbox)]
    assert b"".join(chunks) == written
    assert max(map(len, chunks)) <= 64 << 10
    outbox.close()


async def test_the_worker_does_other_things_between_two_reads_that_are_looked_through_for_secrets(
    tmp_path: Path,
) -> None:
    """W19: to look takes its time; what the server asks meanwhile waits for one read, not for eight."""
    sizes = [0]
    outbox = Outbox(0, Spool(tmp_path / "spool", 1 << 20), memory_limit=1 << 20)
    output = Output(outbox, lambda: sizes.append(outbox.size), lambda: 0, Redaction([b"pa55word-of-a-job"]))
    reading, writing = open_pipe()
    os.set_blocking(writing, False)
    written = os.write(writing, b"x" * (512 << 10))
    os.close(writing)
    output.follow(reading, wire.LOG_STREAM_STDOUT)
    async with asyncio.timeout(60):
        assert await output.drain(20.0)
    assert outbox.size == written
    assert max(after - before for before, after in itertools.pairwise(sizes)) <= READ_BYTES
    outbox.close()
