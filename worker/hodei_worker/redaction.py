"""Takes the values of secrets out of a job's output, as they are and in common encodings, however it is cut (L23).

Each byte that is part of a match is masked, and matches may overlap. Base64 is found across the breaks of its lines.
What could be the beginning of a match is held back until the bytes that follow decide, or there are none.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable

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

#: From a start to an end.
Span = tuple[int, int]


class Patterns:
    """Byte strings that are looked for together.

    :param patterns: each of more than `_HEAD` bytes.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        ordered = sorted(set(patterns), key=lambda each: (len(each), each))
        # A pattern that contains another can only be where that is: it is looked for nowhere else.
        self._probes: dict[bytes, list[bytes]] = {}
        #: By how they begin, the longest last.
        self._heads: dict[bytes, list[bytes]] = {}
        for pattern in ordered:
            probe = next((each for each in self._probes if each in pattern), None)
            if probe is None:
                self._probes[pattern] = []
            else:
                self._probes[probe].append(pattern)
            self._heads.setdefault(pattern[:_HEAD], []).append(pattern)
        self._starts = {pattern[:length] for pattern in ordered for length in range(1, _HEAD)}

    def matches(self, data: bytes) -> list[Span]:
        """Return where patterns are."""
        spans: list[Span] = []
        for probe, longer in self._probes.items():
            if probe in data:
                for pattern in (probe, *longer):
                    at = data.find(pattern)
                    while at >= 0:
                        spans.append((at, at + len(pattern)))
                        at = data.find(pattern, at + 1)
        return spans

    def undecided(self, data: bytes) -> int:
        """Return where the first match may begin that is not whole yet; the end where there is none."""
        size = len(data)
        first = size
        for head, patterns in self._heads.items():
            at = data.find(head, max(0, size - len(patterns[-1]) + 1))
            while 0 <= at < first:
                begun = data[at:]
                if any(len(begun) < len(pattern) and pattern.startswith(begun) for pattern in patterns):
                    first = at
                    break
                at = data.find(head, at + 1)
        for length in range(min(_HEAD - 1, size), 0, -1):
            if data[-length:] in self._starts:
                return min(first, size - length)
        return first


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

    def look(self, data: bytes) -> tuple[list[Span], int]:
        """Return where matches are, in no order, and where the first may begin that is not whole yet."""
        spans, undecided = self._all.matches(data), self._all.undecided(data)
        breaks = _breaks(data)
        if breaks:
            joined = _Joined(data, breaks)
            spans += [
                (joined.place(start), joined.place(end - 1) + 1) for start, end in self._base64.matches(joined.data)
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
        spans, undecided = self._redaction.look(data)
        # What began before was decided before.
        return self._give(data, max(undecided, len(self._before)), spans)

    def finish(self) -> bytes:
        """Return what was held back: nothing follows."""
        if not self._held:
            return b""
        data = self._before + self._held
        return self._give(data, len(data), self._redaction.look(data)[0])

    def _give(self, data: bytes, decided: int, spans: list[Span]) -> bytes:
        begin = at = len(self._before)
        shown = begin + self._masked
        ahead = [(begin, shown)] if self._masked else []
        given: list[bytes] = []
        for start, end in merge([*ahead, *(span for span in spans if span[0] >= begin)]):
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
