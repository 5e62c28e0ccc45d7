"""Takes the values of secrets out of a job's output, as they are and in common encodings, however it is cut (L23).

Each byte that is part of a match is masked, and matches may overlap. Base64 is found across the breaks of its lines.
What could be the beginning of a match is held back until the bytes that follow decide, or there are none.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator

from hodei.secrets import MIN_BYTES
from hodei_worker.encodings import base64_forms, plain_forms

MASK = b"***"

#: Characters of base64 that stand before the end of a line which is taken for wrapped base64.
WRAPPED = 32
_CHARACTERS = rb"[A-Za-z0-9+/_-]{%d}" % WRAPPED
#: Each begins with what is searched for fast; an end in CR LF, and one in LF alone.
_BREAKS = tuple(re.compile(end + rb"(?<=" + _CHARACTERS + end + rb")") for end in (rb"\r\n", rb"\n"))
_BREAK_BEGUN = re.compile(_CHARACTERS + rb"\r\Z")
#: So much before a place is looked at to tell whether it is such an end.
_CONTEXT = WRAPPED + 1
#: Bytes at the beginning of a pattern that are looked for at the end of what was read.
_HEAD = 4
_GLANCE = 32
#: Patterns that begin with so many same bytes are looked for by these, and told apart where they are found.
_STEM = MIN_BYTES
#: Longer ones are looked for one by one.
_SHORT = 256

#: From a start to an end.
Span = tuple[int, int]


class Patterns:
    """Byte strings that are looked for together.

    :param patterns: each of at least `_STEM` bytes.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._ordered = sorted(set(patterns))
        self._families = [
            _Family(list(each)) for _, each in itertools.groupby(self._ordered, lambda pattern: pattern[:_STEM])
        ]
        #: By how they begin: the length of the longest.
        self._heads: dict[bytes, int] = {}
        for pattern in self._ordered:
            head = pattern[:_HEAD]
            self._heads[head] = max(len(pattern), self._heads.get(head, 0))
        self._starts = {head[:length] for head in self._heads for length in range(1, _HEAD)}

    def matches(self, data: bytes, begin: int = 0) -> list[Span]:
        """Return what is covered by matches that begin at a place or behind it: spans that may overlap, in no order."""
        spans: list[Span] = []
        for family in self._families:
            at = data.find(family.stem, begin)
            if at >= 0:
                spans += family.matches(data, at)
        return spans

    def undecided(self, data: bytes) -> int:
        """Return where the first match may begin that is not whole yet; the end where there is none."""
        size = len(data)
        first = size
        for head, longest in self._heads.items():
            at = data.find(head, max(0, size - longest + 1))
            while 0 <= at < first:
                # Most places are told by a few bytes; to compare all that follows takes a copy of it.
                if self._goes_on(data[at : at + _GLANCE]) and self._goes_on(data[at:]):
                    first = at
                    break
                at = data.find(head, at + 1)
        for length in range(min(_HEAD - 1, size), 0, -1):
            if data[-length:] in self._starts:
                return min(first, size - length)
        return first

    def _goes_on(self, begun: bytes) -> bool:
        """Return whether a pattern begins so and is longer: these stand together, right behind where it would."""
        place = bisect.bisect_right(self._ordered, begun)
        return place < len(self._ordered) and self._ordered[place].startswith(begun)


class _Family:
    """Patterns that begin with the same bytes, in order.

    :ivar stem: what they begin with, all of it.
    """

    def __init__(self, patterns: list[bytes]) -> None:
        self.stem = _common(patterns[0], patterns[-1])
        alone = {pattern: period for pattern in patterns if (period := _period(pattern)) or len(pattern) > _SHORT}
        short = [pattern for pattern in patterns if pattern not in alone]
        if len(short) == 1:
            alone[short.pop()] = 0
        self._alone = list(alone.items())
        self._short = short
        #: For each short one, the longest of the others that it begins with.
        self._within: list[int | None] = []
        for place, pattern in enumerate(short):
            other = place - 1 if place else None
            while other is not None and not pattern.startswith(short[other]):
                other = self._within[other]
            self._within.append(other)

    def matches(self, data: bytes, at: int) -> list[Span]:
        """Return what is covered by matches.

        :param at: where the stem is found first.
        """
        spans: list[Span] = []
        for pattern, period in self._alone:
            spans += _occurrences(pattern, period, data, at)
        while self._short and at >= 0:
            begun = data[at : at + _SHORT]
            # What it begins with is what stands before it in their order, or what that begins with.
            place: int | None = bisect.bisect_right(self._short, begun) - 1
            while place is not None and place >= 0:
                if begun.startswith(self._short[place]):
                    spans.append((at, at + len(self._short[place])))
                    break
                place = self._within[place]
            at = data.find(self.stem, at + 1)
        return spans


def _common(one: bytes, other: bytes) -> bytes:
    """Return what two begin with."""
    if one == other:
        return one
    return bytes(
        mine for mine, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    )


def _period(pattern: bytes) -> int:
    """Return after how many bytes a pattern repeats itself, if that is at most a fourth of it; 0 where it is not."""
    found = pattern.find(pattern[: (len(pattern) + 1) // 2], 1)
    # A first place that doesn't lead to the end rules out any other period as short.
    return found if 0 < found <= len(pattern) // 4 and pattern[found:] == pattern[:-found] else 0


def _occurrences(pattern: bytes, period: int, data: bytes, at: int) -> Iterator[Span]:
    """Yield where a pattern is; what repeats itself is followed to its end, and is one span."""
    at = data.find(pattern, at)
    while at >= 0:
        end = at + len(pattern)
        if period:
            while data.startswith(pattern[-period:], end):
                end += period
        yield at, end
        # Behind the last one of a run, the next can't begin before so much of it is over.
        at = data.find(pattern, end - period + 1 if period else at + 1)


class Redaction:
    """What is to be kept out of a log.

    :param values: of the secrets; each long enough, as `hodei.secrets` says.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        values = list(values)
        encoded = {each for value in values for each in base64_forms(value)}
        self._all = Patterns(encoded.union(*(plain_forms(value) for value in values)))
        self._base64 = Patterns(encoded)

    def redact(self, data: bytes) -> bytes:
        """Return bytes that are whole without the secrets in them."""
        stream = RedactedStream(self)
        return stream.feed(data) + stream.finish()

    def look(self, data: bytes, begin: int = 0) -> tuple[list[Span], int]:
        """Return what matches cover, in no order, and where the first may begin that is not whole yet.

        :param begin: no match begins before; what stands there tells of the ends of lines.
        """
        spans, undecided = self._all.matches(data, begin), self._all.undecided(data)
        breaks = _breaks(data)
        if breaks:
            joined = _Joined(data, breaks)
            spans += [
                (joined.place(start), joined.place(end - 1) + 1)
                for start, end in self._base64.matches(joined.data, joined.joined_place(begin))
            ]
            place = self._base64.undecided(joined.data)
            if place < len(joined.data):
                undecided = min(undecided, joined.place(place))
        return spans, undecided


class RedactedStream:
    """One stream of output on its way through a redaction."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        #: The last that was given out, unredacted: it tells whether the end of a line is one of wrapped base64.
        self._before = b""
        self._held = b""
        #: So many of the held bytes belong to a match whose mask was given out.
        self._masked = 0

    def feed(self, data: bytes) -> bytes:
        """Take what was read; return what is decided."""
        data = self._before + self._held + data
        spans, undecided = self._redaction.look(data, len(self._before))
        # What began before was decided before.
        return self._give(data, max(undecided, len(self._before)), spans)

    def finish(self) -> bytes:
        """Return what was held back: nothing follows."""
        if not self._held:
            return b""
        data = self._before + self._held
        return self._give(data, len(data), self._redaction.look(data, len(self._before))[0])

    def _give(self, data: bytes, decided: int, spans: list[Span]) -> bytes:
        begin = at = len(self._before)
        shown = begin + self._masked
        ahead = [(begin, shown)] if self._masked else []
        given: list[bytes] = []
        for start, end in merge([*ahead, *spans]):
            if start > begin or not self._masked:
                if start >= decided:
                    break
                given += (data[at:start], MASK)
            at = end
        given.append(data[at:decided])
        self._before = data[max(0, decided - _CONTEXT) : decided]
        self._held = data[decided:]
        self._masked = max(0, at - decided)
        return b"".join(given)


class _Joined:
    """Bytes without the breaks of lines that wrap base64.

    :ivar data: what is left.
    """

    def __init__(self, data: bytes, breaks: list[Span]) -> None:
        starts = [0, *(end for _, end in breaks)]
        pieces = [data[start:end] for start, (end, _) in zip(starts, [*breaks, (len(data), 0)], strict=True)]
        self.data = b"".join(pieces)
        self._raw = starts
        self._joined = list(itertools.accumulate(map(len, pieces[:-1]), initial=0))

    def joined_place(self, place: int) -> int:
        """Return where in `data` the first byte is that was at a place, or behind it."""
        piece = bisect.bisect_right(self._raw, place) - 1
        following = self._joined[piece + 1] if piece + 1 < len(self._joined) else len(self.data)
        return min(self._joined[piece] + place - self._raw[piece], following)

    def place(self, place: int) -> int:
        """Return where a byte of `data` was before."""
        piece = bisect.bisect_right(self._joined, place) - 1
        return self._raw[piece] + place - self._joined[piece]


def _breaks(data: bytes) -> list[Span]:
    """Return where lines end that look like wrapped base64, in order. A CR at the end may be the half of one."""
    found = [match.span() for pattern in _BREAKS for match in pattern.finditer(data)]
    if data.endswith(b"\r") and _BREAK_BEGUN.search(data, max(0, len(data) - _CONTEXT)):
        found.append((len(data) - 1, len(data)))
    return sorted(found)


def merge(spans: list[Span]) -> list[Span]:
    """Return spans with those that overlap as one, in order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
