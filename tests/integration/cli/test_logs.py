"""A job's bytes on their way through the command."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Sequence
from typing import Any

import pytest

from hodei.v1 import log_pb2 as wire

OUT, ERR, SYSTEM = wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM


def joined(said: Sequence[Any], *streams: int) -> bytes:
    """Return the bytes of some streams, in order."""
    return b"".join(data for stream, data in said if stream in streams)


@pytest.mark.parametrize("arguments", [["logs", "j1"], ["logs", "-f", "j1"], ["run", "-q", "--", "true"]])
async def test_bytes_are_exact_over_broken_streams(server: Any, cli: Any, said: Any, arguments: list[str]) -> None:
    """L04, L05, L12, L16: each stream on its own, with nothing of Hodei's between."""
    server.said, server.breaks = said, [3, 5, 6]
    ran = await cli.run(*arguments)
    assert (ran.code, ran.out, ran.err) == (0, joined(said, OUT), joined(said, ERR))
    assert server.streams == 4


async def test_one_stream_or_all_of_them(server: Any, cli: Any, said: Any) -> None:
    """What Hodei says of the attempt comes only when it is asked for, on stderr."""
    server.said = said
    assert (await cli.run("logs", "--stdout", "j1")).err == b""
    assert (await cli.run("logs", "--stderr", "j1")).out == b""
    assert (await cli.run("logs", "--system", "j1")).err == joined(said, ERR, SYSTEM)


async def test_a_cut_is_marked_on_stderr(server: Any, cli: Any) -> None:
    """L15: stdout stays the job's own."""
    server.said = [(OUT, b"%d\n" % number) for number in range(6)]
    server.cut = (1, 4)
    ran = await cli.run("logs", "j1")
    assert (ran.code, ran.out) == (0, b"0\n5\n")
    assert ran.err.count(b"\n") == 1
    assert b"7 lines" in ran.err


async def on_a_terminal(cli: Any, *arguments: str) -> bytes:
    """Run a command whose stdout is a terminal; return what that terminal got."""
    ours, theirs = pty.openpty()
    try:
        process = await cli.start(*arguments, stdout=theirs)
        os.close(theirs)
        shown = await asyncio.to_thread(read_all, ours)
        assert await process.wait() == 0
    finally:
        os.close(ours)
    return shown


def read_all(number: int) -> bytes:
    """Read until nobody writes any more."""
    found = b""
    while True:
        try:
            found += os.read(number, 65536)
        except OSError:
            return found


async def test_a_terminal_is_spared_and_raw_is_not(server: Any, cli: Any) -> None:
    """L24: also where an escape is cut over two chunks."""
    server.said = [(OUT, b"a\x1b]52;c;"), (OUT, b"aGk=\x07\x1b[31mb\x1b["), (OUT, b"0m\x1b[6n\n")]
    assert await on_a_terminal(cli, "logs", "j1") == b"a\x1b[31mb\x1b[0m\r\n"
    assert await on_a_terminal(cli, "logs", "--raw", "j1") == joined(server.said, OUT).replace(b"\n", b"\r\n")


async def test_a_reader_that_goes_is_no_traceback(server: Any, cli: Any) -> None:
    """As with `head`."""
    server.said = [(OUT, b"x" * 65536)] * 64
    process = await cli.start("logs", "j1")
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readexactly(10)
    process.stdout._transport.close()
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


async def test_a_pipe_that_somebody_made_non_blocking_gets_everything(server: Any, cli: Any) -> None:
    """Whoever shares it may have done so."""
    server.said = [(OUT, b"x" * 65536)] * 32
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = await cli.start("logs", "j1", stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert len(await asyncio.to_thread(pipe.read)) == 32 * 65536
    assert await process.wait() == 0
