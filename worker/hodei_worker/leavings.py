"""What a job leaves on disk goes with it: the next one may be of another program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from hodei.folders import remove_folder


class Leavings:
    """Removes a job's scratch folder, and what it has put into other folders that nobody but this worker has.

    What is in those at the beginning stays, as far as jobs leave it alone.

    :param folders: of a container's: its ``/tmp``, its working directory.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._before = {folder: (_mode(folder), _names(folder)) for folder in folders}

    async def remove(self, scratch: Path) -> None:
        """Remove what is left; that takes seconds where it is many files, and others go on meanwhile."""
        if not _removed_empty(scratch):
            await asyncio.to_thread(remove_folder, scratch)
        if self._before:
            await asyncio.to_thread(self._remove_others)

    def _remove_others(self) -> None:
        for folder, (mode, names) in self._before.items():
            if mode != _mode(folder):
                with contextlib.suppress(OSError):
                    folder.chmod(mode)
            for name in _names(folder) - names:
                remove_folder(folder / name)


def _mode(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return stat.S_IMODE(folder.stat().st_mode)
    return 0


def _names(folder: Path) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    return frozenset()


def _removed_empty(folder: Path) -> bool:
    """Remove a folder, if it is empty, as most jobs leave it; return whether it was."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
