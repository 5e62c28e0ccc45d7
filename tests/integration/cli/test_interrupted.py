"""Ctrl-C, once and twice, in commands that wait for an answer, or for their connection to be closed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

#: Runs a command that gets no answer, and whose connection is closed at once, or never. It says how far it has come.
PROGRAM = """
import asyncio, signal, sys
from hodei_client import connection

closes = sys.argv.pop(1) == "closes"
open_channel = connection.open_channel

async def never_answered(*_):
    print("called", flush=True)
    await asyncio.Event().wait()

async def close():
    print("closing", flush=True)
    if not closes:
        await asyncio.Event().wait()

def open_slow(*arguments, **named):
    channel = open_channel(*arguments, **named)
    channel.close = close
    return channel

connection.open_channel = open_slow
connection.Connection.call = never_answered
# As in the foreground of a shell, also where these tests run in the background of one.
signal.signal(signal.SIGINT, signal.default_int_handler)
from hodei_cli.main import main
main()
"""
commands = pytest.mark.parametrize("command", [["health"], ["bundle", "j1"], ["get", "j1"]], ids=lambda each: each[0])


async def start(cli: Any, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command and wait until it has called the server."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *arguments,
        env=cli.environment,
        cwd=folder,
        stdin=nothing,
        stdout=pipe,
        stderr=pipe,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"called\n"
    return process


@commands
async def test_ctrl_c_ends_a_command_without_a_word(cli: Any, command: list[str], tmp_path: Path) -> None:
    """It leaves no file either."""
    process = await start(cli, tmp_path, "closes", *command)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"closing\n", b"")
    assert not list(tmp_path.iterdir())


@commands
async def test_a_second_ctrl_c_ends_a_command_that_is_closing(cli: Any, command: list[str], tmp_path: Path) -> None:
    """By the signal itself: as an exception it would only break what closes the event loop, gRPC or the interpreter."""
    process = await start(cli, tmp_path, "stays open", *command)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"closing\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")
