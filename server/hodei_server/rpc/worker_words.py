"""What a worker can't say: of the attempts it has, and for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

import hodei
from hodei.v1 import worker_pb2 as wire
from hodei_server.domain.errors import Violation
from hodei_server.domain.spec import check_text
from hodei_server.rpc.requests import MAX_INTEGER
from hodei_server.work.reports import ProtocolViolationError
from hodei_server.work.results import printable

PROTOCOL_VERSION = 2
#: Workers one release older are served.
OLDEST_PROTOCOL_VERSION = 1
#: What a worker may name in its hello: far more attempts than one has that runs one job at a time.
MAX_HELD = 64
MAX_UID = 64
#: Characters of what a worker says for people.
MAX_REASON = 4096


def check_protocol(prefix: str, said: wire.RegisterRequest | wire.WorkerHello) -> Iterator[Violation]:
    """Yield that a worker speaks a protocol that this server does not, with the versions of both.

    :param prefix: of the field's name.
    """
    version = said.protocol_version
    if not OLDEST_PROTOCOL_VERSION <= version <= PROTOCOL_VERSION:
        worker = printable(said.worker_version[:MAX_UID]) or "of no version"
        served = f"{OLDEST_PROTOCOL_VERSION} to {PROTOCOL_VERSION}"
        what = f"{version} (worker {worker}) is not served: server {hodei.__version__} speaks {served}"
        yield Violation(f"{prefix}protocol_version", what)


def newer_worker(message: Message) -> Iterator[Violation]:
    """Yield that a message is of a newer worker, which explains fields that the server does not know."""
    if isinstance(message, wire.RegisterRequest):
        yield from check_protocol("", message)
    elif isinstance(message, wire.ConnectRequest) and message.HasField("hello"):
        yield from check_protocol("hello.", message.hello)


def check_held(attempts: Sequence[wire.HeldAttempt]) -> Iterator[Violation]:
    """Yield what no worker can say of the attempts that it has."""
    field = "hello.attempts"
    if len(attempts) > MAX_HELD:
        yield Violation(field, f"must have at most {MAX_HELD} entries")
        return
    if len({held.attempt_uid for held in attempts}) < len(attempts):
        yield Violation(field, "must name each attempt once")
    for place, held in enumerate(attempts):
        name = f"{field}[{place}]"
        if not held.attempt_uid:
            yield Violation(f"{name}.attempt_uid", "is missing")
        yield from check_text(f"{name}.attempt_uid", held.attempt_uid, MAX_UID)
        if held.epoch < 0:
            yield Violation(f"{name}.epoch", "must not be negative")
        if held.next_sequence > MAX_INTEGER:
            yield Violation(f"{name}.next_sequence", f"must be at most {MAX_INTEGER}")


def check_reason(reason: str) -> None:
    """Check the size of what a worker says for people.

    :raise ProtocolViolationError: it is too long.
    """
    if len(reason) > MAX_REASON:
        raise ProtocolViolationError(f"a reason has at most {MAX_REASON} characters")
