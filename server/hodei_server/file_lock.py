"""Files of which one process at a time has the lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileHeldError(Exception):
    """Another process has the lock; the message is its id, or "unknown"."""


def lock_file(path: Path) -> int:
    """Make a file, unless it is there, and lock it for this process, whose id it takes.

    The lock goes with the process, however that ends, and no child inherits it.

    :return: a descriptor; the lock goes when it is closed.
    :raise FileHeldError: another process has the lock.
    :raise OSError: it can't be made, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise FileHeldError(holder or "unknown") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
