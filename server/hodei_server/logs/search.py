"""Finding lines in a log: each stream's lines, put together from chunks that cut them anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import re2

from hodei.v1 import log_pb2 as wire

#: A line that is longer is searched in pieces: what a search keeps in memory of each stream.
MAX_LINE_BYTES = 1 << 20
MAX_PATTERN = 1000
_STREAMS = (wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM)


class PatternError(ValueError):
    """A pattern that is none."""


class Pattern:
    """What lines are matched against: RE2, whose time is linear in what it reads, whatever the pattern.

    :param text: an expression in RE2's syntax or, `literal`, the text itself. It never matches beyond a line.
    :raise PatternError: it is no expression.
    """

    def __init__(self, text: str, *, literal: bool = False, ignore_case: bool = False) -> None:
        options = re2.Options()
        options.never_nl = True
        options.case_sensitive = not ignore_case
        options.log_errors = False
        try:
            # Lines are searched many at once: ^ and $ are to mean each.
            self._compiled = re2.compile(f"(?m){re2.escape(text) if literal else text}".encode(), options)
        except re2.error as error:
            raise PatternError(_reason(error)) from None

    def lines_in(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where each matching line begins and where it ends, behind its newline, in order."""
        place = 0
        while place < len(data):
            match = self._compiled.search(data, place)
            if match is None:
                return
            begin = data.rfind(b"\n", 0, match.start()) + 1
            newline = data.find(b"\n", match.start())
            place = newline + 1 if newline >= 0 else len(data)
            if begin < place:
                yield begin, place


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return text.replace("(?m)", "", 1)


@dataclasses.dataclass(slots=True)
class _Unfinished:
    """A stream's line whose newline has not come. Empty: the next chunk begins one."""

    sequence: int = 0
    offset: int = 0
    time: int = 0
    size: int = 0
    parts: list[bytes] = dataclasses.field(default_factory=list)


class LineSearch:
    """Takes a log's chunks in order and tells the lines that match.

    :param positions: where to begin in each stream: a sequence, and an offset into its data.
    :ivar next_sequence: of the chunk that is to come.
    """

    def __init__(self, pattern: Pattern, positions: Mapping[int, tuple[int, int]], next_sequence: int) -> None:
        self.next_sequence = next_sequence
        self._pattern = pattern
        self._from = dict(positions)
        self._unfinished = {stream: _Unfinished() for stream in _STREAMS}

    def take(self, chunk: wire.LogChunk) -> Iterator[wire.LogLine]:
        """Yield the matching lines that a chunk completes."""
        self.next_sequence = max(self.next_sequence, chunk.sequence + 1)
        data, offset = chunk.data, 0
        first, skip = self._from.get(chunk.stream, (0, 0))
        if chunk.sequence < first:
            return
        if chunk.sequence == first and skip:
            data, offset = data[skip:], skip
        unfinished = self._unfinished[chunk.stream]
        if unfinished.parts:
            newline = data.find(b"\n") + 1
            head = data[:newline] if newline else data
            unfinished.parts.append(head)
            unfinished.size += len(head)
            data, offset = data[len(head) :], offset + len(head)
            if newline:
                yield from self._finish(chunk.stream)
        whole = data.rfind(b"\n") + 1
        lines = data[:whole]
        for begin, end in self._pattern.lines_in(lines):
            yield wire.LogLine(
                stream=chunk.stream,
                sequence=chunk.sequence,
                offset=offset + begin,
                time_unix_nanos=chunk.time_unix_nanos,
                data=lines[begin:end],
            )
        if whole < len(data):
            self._unfinished[chunk.stream] = _Unfinished(
                chunk.sequence, offset + whole, chunk.time_unix_nanos, len(data) - whole, [data[whole:]]
            )
        elif self._unfinished[chunk.stream].size > MAX_LINE_BYTES:
            yield from self._finish(chunk.stream, partial=True)

    def finish(self) -> Iterator[wire.LogLine]:
        """Yield what matches of lines without their newline: nothing more comes, or a stretch that is not kept."""
        for stream in _STREAMS:
            yield from self._finish(stream)

    def skip_to(self, sequence: int) -> None:
        """Go on behind a cut."""
        self.next_sequence = max(self.next_sequence, sequence)

    def _finish(self, stream: wire.LogStream.ValueType, *, partial: bool = False) -> Iterator[wire.LogLine]:
        unfinished = self._unfinished[stream]
        if not unfinished.parts:
            return
        self._unfinished[stream] = _Unfinished()
        data = b"".join(unfinished.parts)
        for begin, end in self._pattern.lines_in(data):
            yield wire.LogLine(
                stream=stream,
                sequence=unfinished.sequence,
                offset=unfinished.offset + begin,
                time_unix_nanos=unfinished.time,
                data=data[begin:end],
                partial=partial,
            )

    def positions(self) -> wire.LogPositions:
        """Tell where a search that is to go on after what was told begins in each stream."""
        found = wire.LogPositions()
        for stream, unfinished in self._unfinished.items():
            first, skip = self._from.get(stream, (0, 0))
            if unfinished.parts:
                found.positions.add(stream=stream, sequence=unfinished.sequence, offset=unfinished.offset)
            elif first >= self.next_sequence:
                found.positions.add(stream=stream, sequence=first, offset=skip)
            else:
                found.positions.add(stream=stream, sequence=self.next_sequence)
        return found


def read_positions(positions: Iterable[wire.LogPosition]) -> tuple[int, dict[int, tuple[int, int]]]:
    """Return the first sequence that a search which goes on has to read, and where it begins in each stream."""
    found: dict[int, tuple[int, int]] = {each.stream: (each.sequence, each.offset) for each in positions}
    return min((sequence for sequence, _ in found.values()), default=0), found
