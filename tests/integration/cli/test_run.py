"""`run` and `wait`: codes, Ctrl-C, and what stands on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from typing import Any

import pytest

import hodei
from hodei.v1 import log_pb2 as wire
from hodei.v1 import types_pb2 as types_wire

FAILED = types_wire.JOB_STATE_FAILED


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (types_wire.Outcome(state=FAILED, cause=types_wire.CAUSE_EXIT_CODE, exit_code=7), 7),
        (types_wire.Outcome(state=FAILED, cause=types_wire.CAUSE_SIGNAL, signal=9), 137),
        (types_wire.Outcome(state=FAILED, cause=types_wire.CAUSE_WORKER_LOST), 125),
        (types_wire.Outcome(state=types_wire.JOB_STATE_TIMED_OUT), 124),
    ],
)
async def test_the_code_is_the_jobs(server: Any, cli: Any, outcome: types_wire.Outcome, code: int) -> None:
    """W30: of run and of wait."""
    server.outcome = outcome
    assert (await cli.run("run", "-q", "--", "false")).code == code
    assert (await cli.run("wait", "j1")).code == code


async def test_the_code_waits_for_the_state_not_the_log(server: Any, cli: Any) -> None:
    """W30, L26: a job that ends before it has an attempt has no log, and its own code all the same."""
    server.has_attempt = False
    server.outcome = types_wire.Outcome(state=types_wire.JOB_STATE_TIMED_OUT, message="Waited too long")
    ran = await cli.run("run", "--", "true")
    assert (ran.code, ran.out) == (124, b"")
    assert b"Waited too long" in ran.err


async def test_what_hodei_says_can_do_nothing_to_a_terminal(server: Any, cli: Any) -> None:
    """L24: an outcome's words come from a provider."""
    server.outcome = types_wire.Outcome(state=FAILED, cause=types_wire.CAUSE_IMAGE, message="no\x1b]0;x\x07\nimage")
    ran = await cli.run("run", "--", "true")
    assert ran.code == 125
    assert b"\x1b" not in ran.err
    assert b"\x1b" not in (await cli.run("get", "j1")).out


async def test_the_job_is_submitted_as_it_was_written(server: Any, cli: Any) -> None:
    """W41: an argument with spaces stays one; submit prints the id alone."""
    ran = await cli.run("submit", "--request-id", "mine", "--", "sh", "-c", "echo $HOME | cat", "--name")
    assert (ran.code, ran.out, ran.err) == (0, b"j1\n", b"")
    assert list(server.submits[0].spec.argv) == ["sh", "-c", "echo $HOME | cat", "--name"]
    assert server.submits[0].request_id == "mine"


async def running(server: Any, cli: Any, *options: str, patient: bool = False) -> asyncio.subprocess.Process:
    """Start a run whose job says something and goes on."""
    server.said = [(wire.LOG_STREAM_STDOUT, b"going\n")]
    server.hold.clear()
    process: asyncio.subprocess.Process = await cli.start("run", *options, "--", "sleep", "600", patient=patient)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"going\n"
    return process


async def hint(process: asyncio.subprocess.Process) -> bytes:
    """Return the line that follows the first Ctrl-C."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b"goes on" in line:
            return line
    raise AssertionError


async def test_ctrl_c_detaches_and_says_what_next(server: Any, cli: Any) -> None:
    """The job goes on; how to follow and how to cancel stand there with its id."""
    process = await running(server, cli)
    process.send_signal(signal.SIGINT)
    line = await hint(process)
    assert b"hodei logs -f j1" in line
    assert b"hodei cancel j1" in line
    assert await process.wait() == 130
    assert server.cancels == []


async def test_a_second_ctrl_c_cancels_and_waits_for_the_end(server: Any, cli: Any) -> None:
    """W31: the command ends when the job has."""
    process = await running(server, cli, patient=True)
    process.send_signal(signal.SIGINT)
    await hint(process)
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert [request.job_id for request in server.cancels] == ["j1"]
    assert not server.cancels[0].force


async def test_the_first_ctrl_c_cancels_where_it_was_asked_to(server: Any, cli: Any) -> None:
    """--cancel-on-interrupt."""
    process = await running(server, cli, "--cancel-on-interrupt")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert len(server.cancels) == 1


async def test_a_cancel_by_force_takes_no_grace(server: Any, cli: Any) -> None:
    """W38: which of the two was meant is asked for, and nothing is sent."""
    ran = await cli.run("cancel", "--force", "--grace", "10m", "j1")
    assert ran.code == 2
    assert b"--grace" in ran.err
    assert b"--force" in ran.err
    assert server.cancels == []
    assert (await cli.run("cancel", "--force", "j1")).code == 0
    assert (await cli.run("cancel", "--grace", "10m", "j1")).code == 0
    assert [(each.force, each.grace.seconds) for each in server.cancels] == [(True, 0), (False, 600)]


async def test_a_job_that_ends_right_after_ctrl_c_keeps_its_code(server: Any, cli: Any) -> None:
    """The detaching hasn't happened yet."""
    process = await running(server, cli, patient=True)
    process.send_signal(signal.SIGINT)
    await hint(process)
    server.outcome = types_wire.Outcome(state=FAILED, cause=types_wire.CAUSE_EXIT_CODE, exit_code=5)
    server.hold.set()
    assert await process.wait() == 5


async def test_a_second_ctrl_c_ends_a_command_that_waits_without_a_word(server: Any, cli: Any) -> None:
    """Wherever it meets the command, which is about to close its connection, its event loop and gRPC."""
    server.hold.clear()
    for _ in range(8):
        server.watching.clear()
        server.left.clear()
        process = await cli.start("wait", "j1")
        await server.watching.wait()
        process.send_signal(signal.SIGINT)
        await server.left.wait()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (out, err.strip()) == (b"", b"")
        # The first was enough, or there was time for the second.
        assert process.returncode in {130, -signal.SIGINT}


def test_help_needs_no_grpc() -> None:
    """It is there at once: neither gRPC nor the commands are imported."""
    program = (
        "import sys; sys.modules['grpc'] = sys.modules['google.protobuf'] = sys.modules['yaml'] = None\n"
        "from hodei_cli.main import main; sys.argv = ['hodei', *sys.argv[1:]]; main()\n"
    )
    for arguments, words in ((["--help"], b"Submit a job"), (["--version"], hodei.__version__.encode())):
        done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
        assert words in done.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "words"),
    [
        ("click", ["list"], b"hodei-jobs[cli]"),
        ("sqlalchemy", ["server"], b"hodei-jobs[server]"),
        ("sqlalchemy", ["run", "--local", "--", "true"], b"hodei-jobs[server]"),
    ],
)
def test_a_missing_extra_is_named(missing: str, arguments: list[str], words: bytes) -> None:
    """In one line, with Hodei's own code."""
    program = f"import sys; sys.modules[{missing!r}] = None\nfrom hodei_cli.main import main; main()\n"
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True)
    assert done.returncode == 125
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1


async def test_completion_knows_the_commands(cli: Any) -> None:
    """What the printed scripts ask for."""
    cli.environment |= {"_HODEI_COMPLETE": "bash_complete", "COMP_WORDS": "hodei ca", "COMP_CWORD": "1"}
    assert (await cli.run()).out == b"plain,cancel\n"
