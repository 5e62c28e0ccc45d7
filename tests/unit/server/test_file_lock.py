"""Locks of files."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from hodei_server.file_lock import FileHeldError, lock_file


def test_a_lock_is_one_processs_and_says_whose(tmp_path: Path) -> None:
    """W14: until its descriptor is closed."""
    descriptor = lock_file(tmp_path / "lock")
    with pytest.raises(FileHeldError, match=str(os.getpid())):
        lock_file(tmp_path / "lock")
    os.close(descriptor)
    os.close(lock_file(tmp_path / "lock"))


def test_a_file_system_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads that another server has it would look for one in vain; and no descriptor is left."""
    seen: list[int] = []

    def refuse(descriptor: int, _: int) -> None:
        seen.append(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        lock_file(tmp_path / "lock")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(seen[0])
