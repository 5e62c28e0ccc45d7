"""The C library's memory, where it is glibc: what large logs took is given back once they are on the disk."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8
ARENAS = 2


def limit_arenas() -> None:
    """Have all threads share few arenas: each would keep what its largest moment took. Call it before there are any."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give free memory back to the system. Takes milliseconds: call it in a thread."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
