"""Files of segments: their names, what makes them durable, and what their errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from hodei_logstore import sealed
from hodei_logstore.contract import LogStoreError, SegmentKey, StorageFullError

#: As many pieces as the system takes in one write (IOV_MAX).
MAX_PIECES = 1024
#: Of the thread that compresses: whoever writes or reads a log goes first.
SEAL_NICENESS = 10
_FORMS = ("open", "sealed", "closed", "sealing", "damaged")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def segment_path(root: Path, key: SegmentKey, form: str) -> Path:
    """Return a segment's file: `open`, `sealed`, `closed`, or `sealing` while it is being made."""
    return root / key.attempt_uid[:2] / f"{key.attempt_uid}-{key.first_sequence:020d}.{form}"


def size_of(root: Path, key: SegmentKey) -> int:
    """Return what a segment's files take, in bytes."""
    size = 0
    for path in _files_of(root, key):
        with contextlib.suppress(FileNotFoundError):
            size += os.stat(path).st_size  # noqa: PTH116 - see `_files_of`
    return size


def remove_files(root: Path, key: SegmentKey) -> None:
    """Remove a segment's files, in whatever form it is."""
    for path in _files_of(root, key):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - see `_files_of`


def _files_of(root: Path, key: SegmentKey) -> list[str]:
    """Return the names that a segment's files may have. As text: a path object costs more than the system's call."""
    name = f"{root}/{key.attempt_uid[:2]}/{key.attempt_uid}-{key.first_sequence:020d}"
    return [f"{name}.{form}" for form in _FORMS]


@contextlib.contextmanager
def open_sealed(
    path: Path, key: SegmentKey, index_of: Callable[[sealed.Pread, int, SegmentKey], sealed.SealedIndex]
) -> Generator[tuple[sealed.Pread, sealed.SealedIndex]]:
    """Open a sealed segment's file and its index."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pread = sealed.pread_of(descriptor)
        yield pread, index_of(pread, os.fstat(descriptor).st_size, key)
    finally:
        os.close(descriptor)


def key_of(name: str) -> SegmentKey | None:
    """Return the key that a file's name tells; None for a file that is none of ours, or unfinished."""
    stem, _, form = name.rpartition(".")
    uid, _, sequence = stem.rpartition("-")
    if (
        form not in {"open", "sealed", "closed"}
        or not uid
        or len(sequence) != 20
        or not (sequence.isascii() and sequence.isdigit())
    ):
        return None
    return SegmentKey(uid, int(sequence))


def attempt(target: Callable[[], None]) -> OSError | None:
    """Run something; return its error."""
    try:
        target()
    except OSError as error:
        return error
    return None


def write_at(descriptor: int, pieces: Sequence[bytes], offset: int) -> None:
    """Write pieces one behind the other, from a place in a file on.

    :raise OSError: as the system has it; some of it may be written.
    """
    left: list[bytes | memoryview] = list(pieces)
    while left:
        written = os.pwritev(descriptor, left[:MAX_PIECES], offset)
        offset += written
        done = 0
        while done < len(left) and written >= len(left[done]):
            written -= len(left[done])
            done += 1
        left = left[done:]
        if written:
            left[0] = memoryview(left[0])[written:]


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def step_back() -> None:
    """Let all other threads go before this one."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), SEAL_NICENESS)


def translate(error: Exception) -> LogStoreError:
    """Return an error as the contract knows it."""
    if isinstance(error, LogStoreError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageFullError(f"there is no room for more log: {error.strerror}")
    return LogStoreError(f"the log store failed: {error}")
