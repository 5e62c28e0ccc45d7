"""Whether the kernel has killed for want of memory in this worker's own cgroup."""

from __future__ import annotations

import functools
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def counter_file(cgroup_text: str, root: Path = CGROUPS) -> Path | None:
    """Return the file that counts the kernel's kills.

    :param cgroup_text: what /proc/self/cgroup says.
    :return: None where there is none that could be read (no cgroup of our own: the machine's says nothing of us).
    """
    for line in cgroup_text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            candidates = [root / path.lstrip("/") / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [root / "memory" / path.lstrip("/") / "memory.oom_control", root / "memory/memory.oom_control"]
        else:
            continue
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None


def read_count(text: str) -> int:
    """Return the number of kills that a counter file tells of; 0 when it has no such line."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


@functools.cache
def own_counter_file() -> Path | None:
    """Return this worker's: it stays in the cgroup that it was started in."""
    try:
        return counter_file(Path("/proc/self/cgroup").read_text())
    except OSError:
        return None


class OomCounter:
    """Counts the kernel's kills since it was made.

    :param file: see `counter_file`; nothing is counted where there is none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._before = self._read()

    def _read(self) -> int:
        try:
            if self._file is None:
                return 0
            with open(self._file, "rb", buffering=0) as file:  # noqa: PTH123 - twice a job, at a third of the cost
                return read_count(file.read().decode())
        except (OSError, ValueError):
            return 0

    def grown(self) -> bool:
        """Whether something was killed since the counter was made."""
        return self._read() > self._before
