"""What server, worker and providers have to agree on about a job's secrets."""

from __future__ import annotations

from pathlib import Path

#: Fewer bytes can't be told apart from what a log says anyway, so that a shorter value can't be kept out of it.
MIN_BYTES = 8


def long_enough(value: bytes) -> bool:
    """Return whether a value has enough bytes, besides line breaks and white space at its ends, to be looked for."""
    return len(value.translate(None, b"\r\n").strip()) >= MIN_BYTES


def memory_folder(worker_id: str) -> Path:
    """Return the folder in memory where a worker of this machine keeps its job's secrets; what ends it removes that."""
    return Path("/dev/shm") / f"hodei-{worker_id}"  # noqa: S108 - a random name, made for its owner alone
