"""What /proc tells: who runs, since when, whose child it is, and what mark it carries.

A pid alone names nobody: it is used again. A process is meant by its pid together with its start time and the boot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A running process, zombies not counted.

    :param start: clock ticks since boot.
    """

    pid: int
    start: int
    parent: int
    session: int


def boot_id() -> str:
    """Return what distinguishes this boot from every other."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def look_up(pid: int) -> Process | None:
    """Return the process with a pid; None when there is none or only a zombie is left of it."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    fields = stat.rpartition(") ")[2].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]))


def all_processes() -> Iterator[Process]:
    """Return every process."""
    for name in os.listdir(PROC):  # noqa: PTH208 - a fifth of the cost, on a path that is taken often
        if name.isdigit() and (process := look_up(int(name))) is not None:
            yield process


def carries(pid: int, mark: bytes) -> bool:
    """Whether a process was started with a variable of its environment (``NAME=value``).

    False for a process whose environment may not be read.
    """
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return mark in environment.split(b"\0")


def has_arguments(pid: int, arguments: tuple[bytes, ...]) -> bool:
    """Whether a process was started with some arguments in a row; unlike the environment, anyone may read them."""
    try:
        line = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"\0" + b"\0".join(arguments) + b"\0" in b"\0" + line


def family(roots: Iterable[Process], mark: bytes) -> list[Process]:
    """Return some processes, all that descend from them or share a session with them, and all that carry a mark.

    This process, and its session, are never among them.
    """
    everyone = {process.pid: process for process in all_processes()}
    own_session = os.getsid(0)
    found: dict[int, Process] = {}
    # As they are now: one that was looked up a moment after its fork has made a session of its own since.
    waiting = [everyone[root.pid] for root in roots if root.pid in everyone and everyone[root.pid].start == root.start]
    waiting += [process for process in everyone.values() if carries(process.pid, mark)]
    children: dict[int, list[Process]] = {}
    sessions: dict[int, list[Process]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process)
        sessions.setdefault(process.session, []).append(process)
    while waiting:
        process = waiting.pop()
        if process.pid in found or process.pid == os.getpid():
            continue
        found[process.pid] = process
        waiting += children.get(process.pid, [])
        if process.session != own_session:
            waiting += sessions.get(process.session, [])
    return list(found.values())


@contextlib.contextmanager
def held(process: Process) -> Iterator[int | None]:
    """Hold on to a process by a descriptor that never means another one; None when it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        yield None
        return
    try:
        # Checked after the descriptor is there: from now on it can't be somebody else.
        current = look_up(process.pid)
        yield descriptor if current is not None and current.start == process.start else None
    finally:
        os.close(descriptor)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process, and to no other that has its pid by now."""
    with held(process) as descriptor:
        if descriptor is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(descriptor, number)


def wait_gone(process: Process, seconds: float) -> bool:
    """Wait for a process to end; return whether it has."""
    with held(process) as descriptor:
        if descriptor is None:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
