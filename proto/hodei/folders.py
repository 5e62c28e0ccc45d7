"""The removal of what a job could write to."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

#: Something that is about to end may write into it meanwhile.
_ROUNDS = 3


def remove_folder(folder: Path) -> bool:
    """Remove a folder with all that is in it, whatever modes a job has given to it; no link is followed.

    :return: whether nothing is left of it.
    """
    for _ in range(_ROUNDS):
        _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.unlink()  # a link or a file that was put in its place
        if not os.path.lexists(folder):
            return True
    return False


def _open_up(folder: Path) -> None:
    """Let the owner of a folder, and of those in it, change them."""
    _let_owner_write(folder)
    with contextlib.suppress(OSError):
        for _, folders, _, parent in os.fwalk(folder):
            for each in folders:
                _let_owner_write(each, parent)


def _let_owner_write(folder: str | Path, parent: int | None = None) -> None:
    with contextlib.suppress(OSError):
        # Needs no right to read it, and is no link.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{descriptor}").chmod(0o700)
        finally:
            os.close(descriptor)
