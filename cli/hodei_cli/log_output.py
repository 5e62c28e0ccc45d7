"""A job's bytes on their way to this process's own standard output and error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator

from hodei_client.logs import STDERR, STDOUT, SYSTEM, AttemptEnd, Chunk, Cut, LogEvent

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
#: An escape that is longer is none.
_LONGEST = 4096


class TerminalFilter:
    """Takes dangerous escapes out of bytes that go to a terminal (L24). Keeps what is cut off for the next piece."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be shown."""
        data = self._rest + data
        unfinished = _UNFINISHED.search(data)
        if unfinished and len(data) - unfinished.start() <= _LONGEST:
            data, self._rest = data[: unfinished.start()], data[unfinished.start() :]
        else:
            self._rest = b""
        shown = _ESCAPE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else b"", data)
        shown = shown.translate(None, _CONTROLS)
        return re.sub(rb"\x1b(?!\[[0-9;:]*m)", b"", shown)


class LogOutput:
    """Writes a log: stdout to stdout, stderr to stderr, byte for byte unless it is a terminal.

    :param raw: byte for byte there, too.
    :param system: what Hodei says of the attempt goes to stderr.
    """

    def __init__(self, *, raw: bool, system: bool) -> None:
        self._system = system
        self._files: dict[int, int] = {STDOUT: 1, STDERR: 2, SYSTEM: 2}
        self._filters = {
            stream: TerminalFilter() for stream, number in self._files.items() if not raw and os.isatty(number)
        }

    def write(self, chunk: Chunk) -> None:
        """Write a chunk at once: whoever watches sees it when it is there."""
        if chunk.stream == SYSTEM and not self._system:
            return
        data = chunk.data
        if chunk.stream in self._filters:
            data = self._filters[chunk.stream].feed(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._files[chunk.stream], view) :]


async def copy_log(events: AsyncIterator[LogEvent], output: LogOutput) -> AttemptEnd | None:
    """Write a log to its end; return the last end there was."""
    end: AttemptEnd | None = None
    async for event in events:
        if isinstance(event, Chunk):
            output.write(event)
        elif isinstance(event, Cut):
            sys.stderr.write(
                f"hodei: {event.lines} lines ({event.bytes} bytes) are not here: the log outgrew its budget\n"
            )
        else:
            end = event
            if event.receipt.expired:
                sys.stderr.write("hodei: the log was removed: its time to live had passed\n")
            elif event.receipt.ended and not event.receipt.complete:
                sys.stderr.write(f"hodei: the log of attempt {event.attempt_number} is not complete\n")
            if event.another:
                why = event.outcome.message if event.outcome is not None else "it failed"
                sys.stderr.write(f"hodei: attempt {event.attempt_number}: {why}; another follows\n")
    return end
