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


#: As the kernel numbers them in /proc/net/tcp, those that tell something of a process that holds one.
TCP_STATES = {"01": "established", "08": "closed by the other side", "0A": "listening"}


def descriptors(pid: int) -> list[str]:
    """Return what a process has open; sockets and pipes without their numbers, TCP with its port and state."""
    connections = _connections(pid)
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, number = os.fsdecode(entry.readlink()).partition(":[")
            found.append(connections.get(number.rstrip("]"), kind))
    return sorted(found)


def _connections(pid: int) -> dict[str, str]:
    """Return what the TCP sockets of a process's network are, by inode."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            found[fields[9]] = f"socket of port {port}, {TCP_STATES.get(fields[3], fields[3])}"
    return found
