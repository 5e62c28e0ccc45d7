"""An attempt, without a server: what it leaves running, and what it keeps waiting."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hodei.folders import remove_folder
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_worker import leavings as leavings_module
from hodei_worker.attempt import Attempt
from hodei_worker.leavings import Leavings
from hodei_worker.settings import read_settings

MakeAttempt = Callable[..., Attempt]
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def reaper() -> Iterator[None]:
    """Have this process adopt orphans, as a worker does."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def make_attempt(tmp_path: Path) -> MakeAttempt:
    """Return what makes an attempt at running a command; its log is never acknowledged."""

    def make(*argv: str, **environment: str) -> Attempt:
        given = {
            "HODEI_WORKER_ID": "w1",
            "HODEI_SERVER_ADDRESS": "127.0.0.1:1",
            "HODEI_OTP_TOKEN": "token",
            "HODEI_WORKER_DIR": str(tmp_path / "work"),
            "PATH": os.environ["PATH"],
        }
        run = wire.RunAttempt(job_id="j", attempt_uid="a", epoch=1, spec=types_wire.JobSpec(argv=argv))
        return Attempt(run, read_settings(given | environment), Leavings(()), changed=lambda: None, offset=lambda: 0)

    return make


async def test_a_process_whose_end_could_not_be_heard_of_does_not_run(
    make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W17: the job ends as one that can't be executed, and would go on beside its next attempt."""
    started: list[int] = []

    def refused(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refused)
    attempt = make_attempt("sleep", "600")
    await attempt.run()
    assert attempt.result is not None
    assert (attempt.result.cause, attempt.result.exit_code) == (types_wire.CAUSE_EXEC_FAILED, 126)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file"), ("file", "Not a directory")])
async def test_a_working_directory_that_can_not_be_used_is_told_and_not_the_program(
    make_attempt: MakeAttempt, tmp_path: Path, name: str, why: str
) -> None:
    """The program is there, and "not found" would have its user look for it."""
    (tmp_path / "file").touch()
    attempt = make_attempt("true")
    attempt._run.spec.working_directory = str(tmp_path / name)
    await attempt.run()
    assert attempt.result is not None
    assert (attempt.result.cause, attempt.result.exit_code) == (types_wire.CAUSE_EXEC_FAILED, 126)
    assert attempt.result.message.startswith(f"the working directory {tmp_path / name} can't be used: {why}")


async def test_what_a_job_has_left_behind_ends_with_the_wait_for_a_server(
    make_attempt: MakeAttempt, tmp_path: Path
) -> None:
    """W20: though the job has ended by itself, and its log waits; the next attempt may run already."""
    script = f"sleep 600 >/dev/null 2>&1 & echo $! >{tmp_path}/left; cat /dev/zero &"
    attempt = make_attempt("sh", "-c", script, HODEI_LOG_MEMORY_BYTES="65536", HODEI_SPOOL_BYTES="0")
    running = asyncio.create_task(attempt.run())
    async with asyncio.timeout(30):
        while not attempt.outbox.full:
            await asyncio.sleep(0.01)
        process = attempt._process
        assert process is not None
        await process.ended.wait()
        left = Path("/proc") / (tmp_path / "left").read_text().strip()
        assert left.exists()
        attempt.stop(types_wire.CAUSE_WORKER_LOST, 0.0)
        while left.exists():
            process.reap_orphans()
            await asyncio.sleep(0.01)
        assert not running.done()
        attempt.abandon()
        await running
    assert attempt.result is not None
    assert attempt.result.cause == types_wire.CAUSE_EXIT_CODE
    attempt.forget()


async def test_the_worker_does_other_things_while_many_files_are_removed(
    make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W19: a job may leave a million of them, and the server hears nothing for as long as the loop waits."""
    loop, looped = asyncio.get_running_loop(), threading.Event()

    def slow(folder: Path) -> bool:
        loop.call_soon_threadsafe(looped.set)
        assert looped.wait(60.0), "the loop waits"
        return remove_folder(folder)

    monkeypatch.setattr(leavings_module, "remove_folder", slow)
    attempt = make_attempt("touch", "file")
    await attempt.run()
    assert attempt.result is not None
    assert not attempt._scratch.exists()
