"""A job's bytes on their way to this process's own standard output and error."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import AsyncIterator

from hodei_cli.display import plain
from hodei_client.logs import STDERR, STDOUT, SYSTEM, AttemptEnd, Chunk, Cut, LogEvent
from hodei_client.search import Line, SearchEvent

# What may be shown as it is: colours. Everything else that an escape can do (titles, the clipboard, reports that are
# typed back, moving about) is left out.
_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
_ESCAPE = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"  # control sequences
    rb"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # strings, up to their end
    rb"|[ -/]*[0-Z\\`-~]"  # the rest
    rb")"
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_CONTROLS = bytes(range(0x08)) + b"\x0b\x0c" + bytes(range(0x0E, 0x1B)) + bytes(range(0x1C, 0x20)) + b"\x7f"
# The same once more as characters of UTF-8: U+0080 to U+009F, which some terminals obey.
_C1 = re.compile(rb"\xc2+[\x80-\x9f]+")
#: An escape that is longer is none.
_LONGEST = 4096


class TerminalFilter:
    """Takes dangerous escapes out of bytes that go to a terminal (L24). Keeps what is cut off for the next piece."""

    def __init__(self) -> None:
        self._rest = b""
        self._lead = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be shown."""
        data = self._rest + data
        unfinished = _UNFINISHED.search(data)
        if unfinished and len(data) - unfinished.start() <= _LONGEST:
            data, self._rest = data[: unfinished.start()], data[unfinished.start() :]
        else:
            self._rest = b""
        shown = _ESCAPE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else b"", data)
        shown = re.sub(rb"\x1b(?!\[[0-9;:]*m)", b"", shown.translate(None, _CONTROLS))
        # Last, as what was taken out may have stood between the two bytes of one.
        shown = _C1.sub(b"", self._lead + shown)
        whole = shown.rstrip(b"\xc2")
        self._lead = shown[len(whole) :]
        return whole


class LogOutput:
    """Writes a log: stdout to stdout, stderr to stderr, byte for byte unless it is a terminal.

    :param raw: byte for byte there, too.
    :param system: what Hodei says of the attempt goes to stderr.
    :ivar in_line: whether a terminal shows the beginning of a line whose end has not come.
    """

    def __init__(self, *, raw: bool, system: bool) -> None:
        self.system = system
        self.in_line = False
        self._files: dict[int, int] = {STDOUT: 1, STDERR: 2, SYSTEM: 2}
        self._terminals = frozenset(number for number in (1, 2) if os.isatty(number))
        self._filters = {
            stream: TerminalFilter() for stream, number in self._files.items() if not raw and number in self._terminals
        }

    def write(self, chunk: Chunk | Line) -> None:
        """Write a chunk at once: whoever watches sees it when it is there."""
        if chunk.stream == SYSTEM and not self.system:
            return
        data, number = chunk.data, self._files[chunk.stream]
        if chunk.stream in self._filters:
            data = self._filters[chunk.stream].feed(data)
        if data and number in self._terminals:
            self.in_line = not data.endswith(b"\n")
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(number, view) :]
            except BlockingIOError:
                # Whoever shares the pipe or terminal has made it non-blocking.
                select.select((), (number,), ())

    def note(self, text: str) -> None:
        """Write a line of Hodei's own to stderr, on a line of its own."""
        if self.in_line and 2 in self._terminals:
            text = f"\n{text}"
            self.in_line = False
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


async def copy_log(events: AsyncIterator[LogEvent | SearchEvent], output: LogOutput) -> AttemptEnd | None:
    """Write a log, or the lines found in one, to its end; return the last end there was."""
    end: AttemptEnd | None = None
    async for event in events:
        if isinstance(event, Chunk | Line):
            output.write(event)
        elif isinstance(event, Cut):
            if event.expired:
                continue  # the end says so
            output.note(f"hodei: {event.lines} lines ({event.bytes} bytes) are not here: the log outgrew its budget")
        else:
            end = event
            if event.receipt.expired:
                output.note("hodei: the log was removed: its time to live had passed")
            elif event.receipt.ended and not event.receipt.complete:
                output.note(f"hodei: the log of attempt {event.attempt_number} is not complete")
            if event.another and output.system:
                why = plain(event.outcome.message) if event.outcome is not None else "it failed"
                output.note(f"hodei: attempt {event.attempt_number}: {why}; another may follow")
    return end
