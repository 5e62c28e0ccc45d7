"""Where the processor time goes while a bench runs: exact by thread, and by part of the code as py-spy samples it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hodei_bench.parts import Sampled, sampled, system_part
from hodei_bench.running import RunningServer, cpu_seconds

#: Samples a second.
RATE = 200
#: Workers that are sampled; the figures are of all of them.
MOST_WORKERS = 3
CORE = "gRPC's core, in threads of its own"
JOBS = "the jobs' own processes"

Threads = dict[int, tuple[float, float]]


class Sums(dict[str, float]):
    """Seconds by part; what is not there yet is 0."""

    def __missing__(self, part: str) -> float:
        return 0.0

    def add(self, other: Mapping[str, float], factor: float = 1.0) -> None:
        """Add what another has, times a factor."""
        for part, took in other.items():
            self[part] += took * factor

    def in_order(self, count: float) -> dict[str, float]:
        """Return milliseconds for each of so many units, the most first."""
        most = sorted(self.items(), key=lambda item: -item[1])
        return {part: took / count * 1e3 for part, took in most if took > 0}


class CannotProfileError(Exception):
    """py-spy can't look into a process: the message is its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """One profile.

    :param name: the bench's, or that of a part of it.
    :param unit: what was counted, in the singular; `count` of them took `seconds` of wall time.
    :param processes: by process, milliseconds of processor time for each unit, by part.
    :param all_milliseconds: the same of all that ran on the machine.
    """

    name: str
    unit: str
    count: float
    seconds: float
    processes: Mapping[str, Mapping[str, float]]
    all_milliseconds: float
    durability: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return dataclasses.asdict(self)


def threads_of(pid: int) -> Threads:
    """Return the seconds of user and system time of each thread of a process, by its number."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for entry in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found[int(entry.name)] = (int(fields[11]) / tick, int(fields[12]) / tick)
    return found


def machine_seconds() -> float:
    """Return the seconds for which the machine's processors were busy so far."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    idle, steal = fields[3] + fields[4], fields[7]
    return (sum(fields[:8]) - idle - steal) / os.sysconf("SC_CLK_TCK")


def parts_of(threads: Threads, seen: Mapping[int, Sampled]) -> Sums:
    """Divide what the threads of a process used, in seconds, between parts of the code.

    A thread's user time goes to parts as its samples do, its system time to what the thread is for. One that Python
    doesn't know is gRPC's.
    """
    parts = Sums()
    for number, (user, system) in threads.items():
        thread = seen.get(number)
        if thread is None or "_poll_wrapper" in thread.name:
            parts[CORE] += user + system
            continue
        parts[system_part(thread.name)] += system
        total = thread.parts.total()
        for part, count in thread.parts.items():
            parts[part] += user * count / total
        if not total:
            parts["the rest"] += user
    return parts


def _used(before: Threads, after: Threads) -> Threads:
    nothing = (0.0, 0.0)
    return {
        number: (user - before.get(number, nothing)[0], system - before.get(number, nothing)[1])
        for number, (user, system) in after.items()
    }


@dataclasses.dataclass(slots=True)
class _Recorded:
    """Recordings of the same name, added up, in seconds."""

    unit: str
    count: float = 0.0
    seconds: float = 0.0
    machine: float = 0.0
    processes: dict[str, Sums] = dataclasses.field(default_factory=dict)

    def add(self, count: float, seconds: float, machine: float, processes: Mapping[str, Sums]) -> None:
        self.count += count
        self.seconds += seconds
        self.machine += machine
        for role, parts in processes.items():
            self.processes.setdefault(role, Sums()).add(parts)

    def profile(self, name: str) -> Profile:
        processes = {role: parts.in_order(self.count) for role, parts in self.processes.items() if parts}
        return Profile(name, self.unit, self.count, self.seconds, processes, self.machine / self.count * 1e3)


class Profiler:
    """Records profiles; those of the same name are added up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, _Recorded] = {}
        self._numbers = itertools.count()

    @property
    def profiles(self) -> list[Profile]:
        """Those that were recorded."""
        return [sums.profile(name) for name, sums in self._sums.items()]

    @contextlib.asynccontextmanager
    async def recording(self, name: str, server: RunningServer, unit: str, count: float) -> AsyncIterator[None]:
        """Record what runs in the block: the server, its workers and this process.

        :param unit: what figures are told for; the block does `count` of them.
        :raise CannotProfileError: py-spy is not allowed to.
        """
        workers = sorted(filter(_is_worker, server.worker_pids()))
        chosen = workers[:: max(1, len(workers) // MOST_WORKERS)][:MOST_WORKERS]
        pids = {"server": [server.pid], "workers": chosen, "client": [os.getpid()]}
        async with contextlib.AsyncExitStack() as stack:
            files = {
                pid: await stack.enter_async_context(self._spying(pid)) for group in pids.values() for pid in group
            }
            before = {pid: threads_of(pid) for pid in files}
            all_before, machine = _workers(workers), machine_seconds()
            began = time.monotonic()
            yield
            seconds, machine = time.monotonic() - began, machine_seconds() - machine
            used = {pid: _used(before[pid], threads_of(pid)) for pid in files}
            own, jobs = (after - earlier for earlier, after in zip(all_before, _workers(workers), strict=True))
        processes: dict[str, Sums] = {}
        for role, group in pids.items():
            parts = processes[role] = Sums()
            for pid in group:
                parts.add(parts_of(used[pid], sampled(files[pid].read_text())))
        if workers:
            sampled_ones = sum(processes["workers"].values())
            ours, processes["workers"] = processes["workers"], Sums({JOBS: jobs})
            processes["workers"].add(ours, own / sampled_ones if sampled_ones else 0.0)
        self._sums.setdefault(name, _Recorded(unit)).add(count, seconds, machine, processes)

    @contextlib.asynccontextmanager
    async def _spying(self, pid: int) -> AsyncIterator[Path]:
        """Sample a process; yield the file that its stacks are in once the block was left."""
        file = self._folder / f"{next(self._numbers)}.stacks"
        options = f"--format raw --function --threads --nonblocking --rate {RATE}".split()
        spy = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("py-spy")),
            *("record", "--pid", str(pid), *options, "--output", str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert spy.stdout is not None
        said = b""
        while b"Sampling" not in said:
            line = await spy.stdout.readline()
            said += line
            if not line:
                await spy.wait()
                raise CannotProfileError(said.decode(errors="replace").strip())
        try:
            yield file
        finally:
            with contextlib.suppress(ProcessLookupError):
                spy.send_signal(signal.SIGINT)
            await spy.communicate()


def _is_worker(pid: int) -> bool:
    """Whether a process is a worker, not a job that lies in the same folder."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "hodei-worker"
    return False


def _workers(pids: Sequence[int]) -> tuple[float, float]:
    """Return the processor time of workers, and that of their children that have ended."""
    own = sum(cpu_seconds(pid) for pid in pids)
    return own, sum(cpu_seconds(pid, ended_children=True) for pid in pids) - own
