"""Windows of the week in which a pool keeps another number of workers ready.

    mon-fri 08:00-18:00=10; sat,sun 10:00-16:00=4; 22:00-06:00=0

A window without days is of every day; one whose end is not after its begin ends on the next day. Of several the first
one holds.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:(?P<days>[a-z,-]+)\s+)?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s*=\s*(?P<ready>\d{1,4})")
_MINUTES_A_DAY = 24 * 60


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A time of day on some days.

    :param days: on which it begins; 0 is Monday.
    :param begin: minutes since midnight; `end` likewise, on the next day where it is not after `begin`.
    :param ready: workers that are kept meanwhile.
    """

    days: frozenset[int]
    begin: int
    end: int
    ready: int

    def holds(self, now: dt.datetime) -> bool:
        """Whether a moment, in the schedule's own time zone, lies in it."""
        minute, today = now.hour * 60 + now.minute, now.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or ((today - 1) % 7 in self.days and minute < self.end)


def read_schedule(text: str) -> tuple[Window, ...]:
    """Read windows that are separated by semicolons.

    :raise ValueError: says which one is none.
    """
    return tuple(_window(part.strip()) for part in text.split(";") if part.strip())


def _window(text: str) -> Window:
    match = _WINDOW.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{text!r} is no window like 'mon-fri 08:00-18:00=10'")
    begin, end = _minutes(match["begin"]), _minutes(match["end"])
    if begin in {_MINUTES_A_DAY, end}:
        raise ValueError(f"{text!r} is no window: it begins where it ends, or after the day")
    return Window(_days(match["days"] or "mon-sun"), begin, end, int(match["ready"]))


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _MINUTES_A_DAY:
        raise ValueError(f"{text} is no time of day")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} is no day, or days, like mon or mon-fri")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)
