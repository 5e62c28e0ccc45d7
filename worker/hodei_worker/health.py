"""Whether the worker has its stream, told to health checks of its container by a file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

NAME = "connected-until"


class HealthFile:
    """Holds the time up to which the worker counts as connected; there is none while it is not.

    The time is the kernel's since boot, the same in every container, which no clock set anew changes.

    :param directory: of the worker; made when it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / NAME
        self.clear()

    def confirm(self, seconds: float) -> None:
        """Be connected for so many seconds more. A disk that is full must not end the worker."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(repr(_now() + seconds))

    def clear(self) -> None:
        """Be connected no longer."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


def check_health(environment: Mapping[str, str]) -> tuple[bool, str]:
    """Tell whether the worker whose HODEI_WORKER_DIR this is has its stream, and say so in words."""
    directory = environment.get("HODEI_WORKER_DIR")
    if not directory:
        return False, "HODEI_WORKER_DIR is not set"
    try:
        until = float((Path(directory) / NAME).read_text())
    except (OSError, ValueError):
        return False, "not connected to a server"
    if not _now() <= until:
        return False, "the server has been silent for too long"
    return True, "connected"


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
