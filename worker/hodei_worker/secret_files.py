"""The secrets that a job finds as files."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from hodei.folders import remove_folder
from hodei.secrets import memory_folder
from hodei.v1 import worker_pb2 as wire
from hodei_worker.settings import WorkerSettings

_log = logging.getLogger("hodei.worker")

#: In the job's environment: where the files are.
FOLDER_VARIABLE = "HODEI_SECRETS_DIR"
_MOUNTS = Path("/proc/self/mounts")


class SecretFiles:
    """A folder for its owner alone, in memory where this machine has such a place, else in the worker's own.

    It is there from `write` to `remove`, and only for a job that has secrets in files.
    """

    def __init__(self, run: wire.RunAttempt, settings: WorkerSettings) -> None:
        self._values = {secret.file: secret.value for secret in run.secrets if secret.HasField("file")}
        self._candidates = [settings.directory / f"secrets-{run.attempt_uid}"]
        if self._values and _in_memory(memory_folder(settings.worker_id).parent):
            self._candidates.insert(0, memory_folder(settings.worker_id))
        self._folder: Path | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the job of the folder."""
        return {} if self._folder is None else {FOLDER_VARIABLE: str(self._folder)}

    def write(self) -> None:
        """Write the files, each for its owner alone.

        :raise OSError: there is no room for them.
        """
        if not self._values:
            return
        for number, folder in enumerate(self._candidates, 1):
            try:
                self._write(folder)
            except OSError:
                if number == len(self._candidates):
                    raise
            else:
                return

    def _write(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        try:
            for name, value in self._values.items():
                descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                    file.write(value)
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove what was written, whatever the job has made of it."""
        if self._folder is not None:
            if not remove_folder(self._folder):
                _log.error("the folder of a job's secrets can't be removed: %s", self._folder)
            self._folder = None


def _in_memory(folder: Path) -> bool:
    """Return whether a folder is a file system of its own that is kept in memory."""
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_bytes().splitlines():
            fields = line.split()
            if fields[1] == os.fsencode(folder) and fields[2] == b"tmpfs":
                return True
    return False
