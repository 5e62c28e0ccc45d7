"""The removal of what a job could write to."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

#: Something that is about to end may write into it meanwhile.
_ROUNDS = 3


def remove_folder(folder: Path) -> bool:
    """Remove a folder with all that is in it, whatever modes a job has given to it; no link is followed.

    :return: whether nothing is left of it.
    """
    for _ in range(_ROUNDS):
        with contextlib.suppress(OSError):
            _empty(folder)
            folder.rmdir()
        with contextlib.suppress(OSError):
            folder.unlink()  # a link or a file that was put in its place
        if not os.path.lexists(folder):
            return True
    return False


def _empty(folder: Path) -> None:
    """Remove what is in a folder; what is in its folders is moved up first, as thousands may be in each other."""
    with _opened(folder) as top:
        waiting = _remove_files(top)
        while waiting:
            name = waiting.pop()
            with contextlib.suppress(OSError):
                with _opened(name, top) as opened:
                    for inner in _remove_files(opened):
                        with contextlib.suppress(OSError):
                            _let_owner_write(inner, opened)  # else it can't be moved
                            moved = secrets.token_hex(16)
                            os.rename(inner, moved, src_dir_fd=opened, dst_dir_fd=top)
                            waiting.append(moved)
                os.rmdir(name, dir_fd=top)


def _remove_files(folder: int) -> list[str]:
    """Remove all but the folders from a folder; return the names of these."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return folders


@contextlib.contextmanager
def _opened(folder: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder that its owner may change from now on."""
    _let_owner_write(folder, parent)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _let_owner_write(folder: str | Path, parent: int | None = None) -> None:
    with contextlib.suppress(OSError):
        # Needs no right to read it, and is no link.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{descriptor}").chmod(0o700)
        finally:
            os.close(descriptor)
