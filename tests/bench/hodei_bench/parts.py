"""Where sampled stacks belong: the part of the code that a moment is charged to."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

#: Where a thread waits: for a message, a lock, the disk, a child's exec. The system's own work there is in `system`.
_WAITING = re.compile(
    r"^(\w+Selector\.select|_worker \(concurrent|Condition\.wait|Thread\.run \(threading|_poll_wrapper"
    r"|ForkClient\._read|Database\._run|ForkServer\.serve|\w+Dialect\.do_(commit|rollback)|attempt \(hodei_logstore"
    r"|sync_folder|write_at|Committer\._descriptor|Path\.(rename|mkdir|rmdir|unlink|stat|exists|open)"
    r"|Popen\._execute_child|BaseSelectorEventLoop\._write_to_self|BaseSelectorEventLoop\._read_from_self)"
)
#: From a stack's innermost frame outwards, the first frame that one of these knows decides.
_PARTS = (
    (r"do_execute(many)? \(sqlalchemy|^PreparedStatements\.run", "SQLite"),
    (r"\(sqlalchemy/", "SQLAlchemy"),
    (r"\(hodei_server/db/", "server: moves of jobs"),
    (r"\(hodei/checksum", "checksums"),
    (r"\(hodei_logstore/block", "server: parsing blocks"),
    (r"\(hodei_logstore/sealed", "server: compressing what is whole"),
    (r"\(hodei_logstore/", "server: log store"),
    (r"\(hodei_server/logs/", "server: logs"),
    (r"\(hodei_server/work/", "server: attempts, sessions, scheduler"),
    (r"\(hodei_server/rpc/", "server: services"),
    (r"\(hodei_server/", "server: the rest"),
    (r"\(hodei_providers/", "server: providers"),
    (r"\(hodei_worker/(attempt|process|oom)", "worker: the job's process"),
    (r"\(hodei_worker/out", "worker: output and its blocks"),
    (r"\(hodei_worker/", "worker: connection and messages"),
    (r"\(hodei_client/", "client"),
    (r"\(hodei_bench/", "bench"),
    (r"\(structlog/|\(logging/", "log lines"),
    (r"\((google/)?protobuf/", "protobuf"),
    (r"\(grpc/|^Handle\._run", "gRPC, Python's side"),
    (r"\((asyncio|concurrent|threading|selectors)", "event loop and threads"),
)
_KNOWN = [(re.compile(pattern), part) for pattern, part in _PARTS]
_THREAD = re.compile(r"^thread \((\d+)\)(?:: (.*))?$")


@dataclasses.dataclass(slots=True)
class Sampled:
    """What was seen of one thread: its name, and how many of the moments in which it worked went to which part."""

    name: str = ""
    parts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def part_of(frames: Iterable[str]) -> str | None:
    """Return the part that a stack belongs to, innermost frame last; None where its thread waits."""
    stack = list(frames)
    if not stack or _WAITING.match(stack[-1]):
        return None
    for depth, frame in enumerate(reversed(stack)):
        for pattern, part in _KNOWN:
            # An event loop that is at the bottom of everything decides only where nothing else is on top of it.
            if pattern.search(frame) and (depth == 0 or not frame.startswith("Handle._run")):
                return part
    return "the rest"


def _stacks(text: str) -> Iterator[tuple[int, str, list[str], int]]:
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        first, *frames = stack.split(";")
        thread = _THREAD.match(first)
        if thread is not None and count.isdigit():
            yield int(thread[1]), thread[2] or "", frames, int(count)


def sampled(text: str) -> dict[int, Sampled]:
    """Return what stacks tell, by the thread's number.

    :param text: as `py-spy record --format raw --function --threads` writes it: ``thread (7): name;outer;inner 3``.
    """
    found: dict[int, Sampled] = {}
    for number, name, frames, count in _stacks(text):
        thread = found.setdefault(number, Sampled())
        thread.name = thread.name or name
        part = part_of(frames)
        if part is not None:
            thread.parts[part] += count
    return found


def system_part(thread: str) -> str:
    """Return what the system's work for a thread is charged to, by the thread's name."""
    kinds = {"database": "system: the database's files", "log-": "system: the logs' files", "Main": "system: the rest"}
    return next((part for start, part in kinds.items() if thread.startswith(start)), "system: the rest")
