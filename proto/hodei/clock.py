"""The time of day, as a clock that does not jump.

It is what the machine's clock said when this module was imported, carried on by the time since (suspended time
included). Deadlines, timestamps and times to live of a running process therefore survive an operator, a time service or
a hypervisor that moves the clock; the next start takes the machine's clock as it is then.
"""

from __future__ import annotations

import time

#: Windows and macOS have no clock that counts suspended time; clients there show times only.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_ns() -> int:
    """Return nanoseconds since some moment, the time that the machine was suspended included. Never goes back."""
    return time.clock_gettime_ns(_CLOCK)


_OFFSET_NS = time.time_ns() - elapsed_ns()


def steady_time_ns() -> int:
    """Return nanoseconds since 1970-01-01 UTC."""
    return elapsed_ns() + _OFFSET_NS


def clock_moved_seconds() -> float:
    """Return by how much the machine's clock was moved since this module was imported; < 0: set back."""
    return (time.time_ns() - steady_time_ns()) / 1e9
