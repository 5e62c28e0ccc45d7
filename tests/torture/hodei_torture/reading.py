"""What a reader saw of a job's output, against what the job writes."""

from __future__ import annotations

import re

_LINE = re.compile(rb"line \d+ of \d+\n")


def output(lines: int) -> bytes:
    """Return what a job of so many lines writes."""
    return b"".join(b"line %d of %d\n" % (number, lines) for number in range(lines))


def notes(lines: int) -> bytes:
    """Return what a job of so many lines writes to its other stream meanwhile, if it writes there."""
    return b"".join(b"note %d\n" % number for number in range(50, lines + 1, 50))


class Reading:
    """One pass over the output of an attempt.

    :param expected: what the job writes.
    :ivar place: how far it got, in bytes; None behind a cut, until a line tells.
    :ivar cut: whether a stretch was told to be missing.
    :ivar wrong: the first place where something else was read than the job writes; None while there is none.
    """

    def __init__(self, expected: bytes) -> None:
        self.place: int | None = 0
        self.cut = False
        self.wrong: int | None = None
        self._expected = expected

    def read(self, data: bytes) -> None:
        """Compare what comes next."""
        if self.place is None:
            line = _LINE.search(data)
            if line is None:
                return
            self.place = self._expected.find(line[0]) - line.start()
        if not self._expected.startswith(data, self.place) and self.wrong is None:
            self.wrong = self.place
        self.place += len(data)

    def skip(self) -> None:
        """Go behind a cut; how much of it was read before is not known."""
        self.cut = True
        self.place = None
