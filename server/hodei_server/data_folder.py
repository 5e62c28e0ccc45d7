"""The server's data folder: one server at a time, and always the same installation's."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from hodei_server.file_lock import FileHeldError, lock_file


class DataFolderError(Exception):
    """The data folder can't be used; the message says why."""


class DataFolder:
    """A folder that is locked as long as this object is entered.

    The lock goes with the process, however that ends, and no child inherits it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folder and lock it.

        :raise DataFolderError: another server uses it, or it can't be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock_file(self.path / "lock")
        except OSError as error:
            raise DataFolderError(f"the data folder {self.path} can't be used: {error.strerror}") from None
        except FileHeldError as error:
            raise DataFolderError(
                f"another server (process {error}) uses the data folder {self.path}: "
                "end it, or give this one a folder of its own with HODEI_DATA_DIR"
            ) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_installation(self) -> str:
        """Return the id of the installation that this folder belongs to; empty for a new folder."""
        try:
            return (self.path / "installation").read_text().strip()
        except FileNotFoundError:
            return ""

    def write_installation(self, installation_id: str) -> None:
        """Keep the installation's id, whole or not at all."""
        self._write("installation", f"{installation_id}\n")

    def read_generations(self) -> list[str]:
        """Return the newest generations of the database that this folder was used with, the newest first."""
        try:
            return (self.path / "generation").read_text().split()
        except FileNotFoundError:
            return []

    def write_generation(self, generation: str) -> None:
        """Keep a generation, and the one before: the database may not have got to the newest."""
        before = self.read_generations()[:1]
        self._write("generation", "".join(f"{each}\n" for each in [generation, *before]))

    def _write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all."""
        unfinished = self.path / f"{name}.new"
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self.path / name)
