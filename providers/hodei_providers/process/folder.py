"""What is kept of each worker on disk: a folder with its record, token and output; its spool and scratch go there too.

The record is written before the launch, and again with the process's identity after it, so that what exists is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

from hodei.folders import remove_folder

RECORD = "worker.json"
OUTPUT = "worker.log"
TOKEN = "otp"  # noqa: S105 - a file's name
AUTHORITY = "ca.pem"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Who a worker is. `pid` is 0 before the launch is known to have worked."""

    worker_id: str
    installation_id: str
    pid: int = 0
    start: int = 0
    boot_id: str = ""


class WorkerFolder:
    """One worker's folder.

    :param root: where all workers of the provider have theirs.
    """

    def __init__(self, root: Path, worker_id: str) -> None:
        self.path = root / worker_id

    def read(self) -> Record | None:
        """Return the record; None when there is none, or none that can be read."""
        try:
            return Record(**json.loads((self.path / RECORD).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, record: Record) -> None:
        """Write the record, whole or not at all. Not synced: no worker outlives the machine's power."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.path / f"{RECORD}.new"
        with unfinished.open("w") as file:
            json.dump(dataclasses.asdict(record), file)
        unfinished.rename(self.path / RECORD)

    def write_secret(self, name: str, data: bytes) -> Path:
        """Write a file that only this user can read; return its path."""
        path = self.path / name
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return path

    def last_output(self, lines: int) -> list[str]:
        """Return the last lines of what the worker itself printed."""
        try:
            with (self.path / OUTPUT).open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - 16384, 0))
                return file.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def remove(self) -> None:
        """Remove the folder; the record last, so that a half-removed one is still found."""
        with contextlib.suppress(OSError):  # there is none, or a job has closed it: then all goes at once
            for entry in list(self.path.iterdir()):
                if entry.name != RECORD:
                    remove_folder(entry)
        remove_folder(self.path)


def all_records(root: Path) -> Iterator[Record]:
    """Return the record of every worker under a folder."""
    if root.is_dir():
        for path in sorted(root.iterdir()):
            record = WorkerFolder(root, path.name).read()
            if record is not None:
                yield record
