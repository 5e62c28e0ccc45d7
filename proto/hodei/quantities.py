"""Durations, sizes and processor shares as people write them."""

from __future__ import annotations

import re
from decimal import Context, Decimal

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTP]i?)?B?")
_SIZE_UNITS = {"": 1} | {
    letter + suffix: base**power
    for power, letters in enumerate(("kK", "M", "G", "T", "P"), 1)
    for letter in letters
    for suffix, base in (("", 1000), ("i", 1024))
}
#: Decimal fractions, exactly: as binary ones, 1.001M would be no whole number of bytes.
_EXACT = Context(prec=60)
#: A century: what is longer is a mistake.
MAX_DURATION = 100 * 365 * 86400.0


def parse_duration(text: str) -> float:
    """Return seconds: `90s`, `5m`, `1h30m`, `500ms`, `7d`, or a plain number of seconds.

    :raise ValueError: says how to write it.
    """
    compact = text.strip().lower()
    if _DURATION.fullmatch(compact):
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(compact))
    else:
        try:
            seconds = float(compact)
        except ValueError:
            seconds = -1.0
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"{text!r} is not a duration: write 90s, 5m, 1h30m or 7d")
    return seconds


def parse_size(text: str) -> int:
    """Return bytes: `512`, `10M` (millions), `64Mi`, `2Gi` (powers of 1024).

    :raise ValueError: says how to write it.
    """
    match = _SIZE.fullmatch(text.strip())
    size = _EXACT.multiply(Decimal(match[1]), _SIZE_UNITS[match[2] or ""]) if match else Decimal(-1)
    if not 0 <= size < 2**63 or size != int(size):
        raise ValueError(f"{text!r} is not a size: write 512Mi, 2Gi or 10M")
    return int(size)


def parse_cpu(text: str) -> int:
    """Return thousandths of a processor: `500m`, `2`, `1.5`.

    :raise ValueError: says how to write it.
    """
    compact = text.strip()
    try:
        millis = Decimal(compact[:-1]) if compact.endswith("m") else _EXACT.multiply(Decimal(compact), 1000)
    except ArithmeticError:
        millis = Decimal(-1)
    if not millis.is_finite() or not 0 <= millis < 2**31 or millis != int(millis):
        raise ValueError(f"{text!r} is not a number of processors: write 2, 1.5 or 500m")
    return int(millis)


def format_duration(seconds: float) -> str:
    """Return a duration as people write it, exact to the millisecond; to the nanosecond where it is shorter."""
    rest, parts = round(seconds * 1000), []
    if rest == 0:
        nanos = round(seconds * 1_000_000_000)
        return f"{Decimal(nanos).scaleb(-6).normalize():f}ms" if nanos else "0s"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def format_size(size: int) -> str:
    """Return a size in the largest unit that keeps it exact."""
    for unit, factor in (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
