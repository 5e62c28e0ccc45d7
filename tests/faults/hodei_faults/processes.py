"""The processes of a server's process provider, seen from outside."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def worker_pids(data_dir: Path) -> list[int]:
    """Return the pids of the workers of the server with this data folder."""
    found = []
    mark = os.fsencode(data_dir)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if b"hodei_worker" in (entry / "cmdline").read_bytes() and os.fsencode(
                    (entry / "cwd").readlink()
                ).startswith(mark):
                    found.append(int(entry.name))
    return found


def descriptors(pid: int) -> list[str]:
    """Return what a process has open; sockets and pipes without their numbers."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.fsdecode(entry.readlink()).split(":[")[0])
    return sorted(found)
