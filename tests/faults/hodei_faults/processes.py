"""The processes of a server's process provider, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path


def recorded_workers(data_dir: Path) -> dict[int, str]:
    """Return the workers that are written down and run, by pid: a job's process that is about to be is none."""
    recorded = {}
    for file in data_dir.glob("providers/*/workers/*/worker.json"):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(file.read_text())
            recorded[record.get("pid", 0)] = record["worker_id"]
    return {pid: recorded[pid] for pid in worker_pids(data_dir) if pid in recorded}


def recorded_pids(data_dir: Path) -> list[int]:
    """Return the pids of `recorded_workers`."""
    return list(recorded_workers(data_dir))


def worker_pids(data_dir: Path) -> list[int]:
    """Return the pids of the workers of the server with this data folder.

    Between its fork and its exec a job's process looks like the worker that it comes from, and is among them.
    """
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


def memory(pid: int, kind: str) -> int:
    """Return a process's VmHWM (the most it ever had) or VmRSS (what it has), in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024


#: As the kernel numbers them in /proc/net/tcp, those that tell something of a process that holds one.
TCP_STATES = {"01": "established", "08": "closed by the other side", "0A": "listening"}


def descriptors(pid: int, *, but_to: int = 0) -> list[str]:
    """Return what a process has open; sockets and pipes without their numbers, TCP with its port and state.

    :param but_to: a port; connections to it are left out.
    """
    connections = {
        inode: "" if but_to and remote[1] == but_to else f"socket of port {local[1]}, {TCP_STATES.get(state, state)}"
        for local, remote, state, inode in _connections()
    }
    return sorted(filter(None, (connections.get(inode, kind) for kind, inode in _open_files(pid))))


def connected_to(pid: int) -> list[str]:
    """Return who holds the other ends of a process's established connections on this machine."""
    connections = _connections()
    own = {inode for kind, inode in _open_files(pid) if kind == "socket"}
    far = {(remote, local): local[1] for local, remote, state, inode in connections if inode in own and state == "01"}
    ends = {inode: far[local, remote] for local, remote, _, inode in connections if (local, remote) in far}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
                found += [
                    f"port {ends[inode]}: process {entry.name} ({command})"
                    for _, inode in _open_files(int(entry.name))
                    if inode in ends
                ]
    return sorted(found)


def _open_files(pid: int) -> list[tuple[str, str]]:
    """Return what a process has open: its name or kind, and the inode of what has no name."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, number = os.fsdecode(entry.readlink()).partition(":[")
            found.append((kind, number.rstrip("]")))
    return found


def _connections() -> list[tuple[tuple[str, int], tuple[str, int], str, str]]:
    """Return every TCP socket of this machine: both of its ends, its state, its inode."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            found.append((_end(fields[1]), _end(fields[2]), fields[3], fields[9]))
    return found


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    # An IPv4 address that is written as one of IPv6 ends with it.
    return address[-8:], int(port, 16)
