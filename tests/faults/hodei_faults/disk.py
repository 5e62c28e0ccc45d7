"""A small disk of its own for a folder, that fills up and is emptied."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

#: The smallest thing that must not fit any more once the disk is full, in bytes.
PAGE = 4096


class SmallDisk:
    """A tmpfs on a folder. A context manager; mounting needs root.

    :param folder: made if it is missing; what is in it already is hidden for the while.
    :param size: in bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self._filler = folder / ".filler"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={self.size},mode=0700", "tmpfs", str(self.folder))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unmount it; whoever still has a file open there keeps that until it is closed."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no room at all."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            free = os.statvfs(self.folder)
            os.posix_fallocate(descriptor, 0, max(free.f_bavail * free.f_frsize - PAGE, 1))
            while True:
                os.write(descriptor, bytes(PAGE))
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give back what `fill` has taken."""
        self._filler.unlink(missing_ok=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@functools.cache
def small_disks() -> bool:
    """Whether this process may mount a disk of its own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with SmallDisk(Path(folder) / "disk", 1 << 20):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False
