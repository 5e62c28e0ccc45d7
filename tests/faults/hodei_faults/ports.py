"""Ports of the loopback."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path

#: None of those that the system gives out by itself, to clients and to whoever asks for any: such a one somebody might
#: have while its server is away, between two starts.
FIRST, LAST = 20_000, 29_999
#: Locks of the ports that this process has taken, held until it ends.
_LOCKS: list[int] = []


def free_port() -> int:
    """Return a port that nobody listens on; no other process that runs tests takes it as long as this one runs."""
    folder = Path(tempfile.gettempdir()) / f"hodei-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        if _is_free(port) and _take(folder / str(port)):
            return port


def fixed_ports() -> dict[str, str]:
    """Return settings of a server's listeners, for one that is to be found again after a restart."""
    return {"listen": f"127.0.0.1:{free_port()}", "worker_listen": f"127.0.0.1:{free_port()}"}


def _is_free(port: int) -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


def _take(file: Path) -> bool:
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _LOCKS.append(lock)
    return True
