"""A job's processes: started, signalled, reaped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
#: A process that SIGKILL doesn't end within so many seconds hangs in the kernel: the result waits no longer for it.
KILL_SECONDS = 30.0
#: What a job's processes have in /proc/PID/oom_score_adj: the kernel kills them first.
JOB_OOM_SCORE = b"1000"


class ExecError(Exception):
    """A program can't be executed.

    :param exit_code: 127 where it is not there, 126 where it can't be run.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _OomPreference:
    """Has the kernel kill what is started in here before this process, when memory is short (W06).

    Children begin with their parent's score and never lower it; this process takes its own back, which needs no
    privilege. The file is opened before this process can't be looked into any more: then it would be root's.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._own = b"0"

    def open(self) -> None:
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own = os.pread(self._file, 16, 0).strip()

    def __enter__(self) -> None:
        self._set(JOB_OOM_SCORE)

    def __exit__(self, *_: object) -> None:
        self._set(self._own)

    def _set(self, score: bytes) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, score, 0)


_oom_preference = _OomPreference()


def become_reaper() -> None:
    """Adopt the orphans of jobs (W18), and keep jobs of the same user from reading this process (W24)."""
    _oom_preference.open()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"hodei-worker", 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@dataclasses.dataclass(slots=True)
class Usage:
    """What the processes of a job took.

    :ivar peak_memory: bytes of the largest one.
    :ivar cpu_seconds: of all of them.
    """

    peak_memory: int = 0
    cpu_seconds: float = 0.0


class JobProcess:
    """The leader of a job's session, and all that descends from it. One at a time in a worker.

    :param argv: passed on as it is.
    :param descriptors: what becomes its standard input, output and error.
    :raise ExecError: it can't be executed.
    """

    def __init__(
        self, argv: Sequence[str], *, environment: Mapping[str, str], directory: Path, descriptors: tuple[int, int, int]
    ) -> None:
        self.usage = Usage()
        self.status: int | None = None
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        stdin, stdout, stderr = descriptors
        try:
            # close_fds and a new session without a preexec function: the C code between fork and exec is safe beside
            # gRPC's threads (W23).
            with _oom_preference:
                self._popen = subprocess.Popen(
                    list(argv),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=str(directory),  # an error names it as it is given
                    env=dict(environment),
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            raise _exec_error(argv, directory, error) from error
        self.pid = self._popen.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            # Nobody would be told of its end: it is not to run.
            self.kill()
            self._popen.wait()
            raise _exec_error(argv, directory, error) from error
        self._loop.add_reader(self._pidfd, self._leader_ended)

    def _leader_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status, usage = os.wait4(self.pid, 0)
        self._count(usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
        self.status = status
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.ended.set()
        self.reap_orphans()

    def _count(self, peak_kib: int, cpu_seconds: float) -> None:
        self.usage.peak_memory = max(self.usage.peak_memory, peak_kib * 1024)
        self.usage.cpu_seconds += cpu_seconds

    @property
    def exited(self) -> bool:
        """Whether the leader has ended, even if the loop has not yet been told."""
        if self.status is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    @property
    def exit_code(self) -> int | None:
        """The leader's exit code; None when a signal ended it."""
        return os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> int | None:
        """The signal that ended the leader."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else None

    def terminate(self) -> None:
        """Ask the process group to end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process group and every descendant, whatever session it has made for itself (W17)."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    async def kill_rest(self) -> None:
        """End what the leader has left behind, until nothing of it is there."""
        if not self.reap_orphans():
            return  # this process adopts orphans: without a child it has no descendant
        deadline = self._loop.time() + KILL_SECONDS
        while descendants() and self._loop.time() < deadline:
            self.kill()
            await asyncio.sleep(0.005)
            self.reap_orphans()

    def reap_orphans(self) -> bool:
        """Reap orphans that ended; return whether any child is left.

        Each is looked at before it is reaped, by its pid: to wait for any child would take the leader's exit code away
        from who waits for it.
        """
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if found is None or (found.si_pid == self.pid and self.status is None):
                return True
            with contextlib.suppress(ChildProcessError):
                _, _, usage = os.wait4(found.si_pid, 0)
                self._count(usage.ru_maxrss, usage.ru_utime + usage.ru_stime)


def descendants() -> list[int]:
    """Return the pids of all processes that descend from this one, zombies among them."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = list(_children(waiting.pop()))
        found += children
        waiting += children
    return found


def _children(pid: int) -> Iterator[int]:
    # Without pathlib, which takes several times as long: every job's end comes by here.
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - see above
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123 - see above
                yield from map(int, file.read().split())


def _exec_error(argv: Sequence[str], directory: Path, error: OSError | ValueError) -> ExecError:
    if isinstance(error, OSError) and error.filename == str(directory) != argv[0]:
        return ExecError(f"the working directory {directory} can't be used: {error.strerror}", 126)
    if isinstance(error, FileNotFoundError):
        return ExecError(f"{argv[0]}: not found", 127)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ExecError(f"{argv[0]}: can't be executed: {reason}", 126)


def feed(descriptor: int, data: bytes) -> None:
    """Write a job's standard input as it is read, then close it. A job that doesn't read it is none of its business."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    rest = memoryview(data)

    def write() -> None:
        nonlocal rest
        try:
            rest = rest[os.write(descriptor, rest[: 64 << 10]) :]
        except BlockingIOError:
            return
        except OSError:
            rest = rest[:0]
        if not rest:
            loop.remove_writer(descriptor)
            os.close(descriptor)

    loop.add_writer(descriptor, write)
