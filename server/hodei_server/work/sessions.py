"""The connections of workers, and what is on its way to each."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from typing import Literal

import structlog

from hodei.v1 import worker_pb2 as wire

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Messages that may wait for a worker; one that reads none of so many is disconnected.
OUTBOX_LIMIT = 1000
#: Seconds for which acknowledgements of logs are merged while nothing else is to be said. No one waits for them but a
#: worker that has a whole window on its way, and that takes longer to send.
ACK_SECONDS = 0.005


class Session:
    """One connection of one worker. Its outbox merges acknowledgements: only the newest of a log is sent.

    :param peer: the other end of the TCP connection, as gRPC names it.
    :param breaks: how many streams in a row the worker has broken off before this one, each on this TCP connection and
        within moments.
    :ivar heard_at: monotonic seconds of the newest message from the worker.
    :ivar version: of the worker, as it says.
    :ivar protocol: the version of the protocol that the worker speaks.
    """

    def __init__(self, worker_id: str, peer: str = "", breaks: int = 0) -> None:
        self.worker_id = worker_id
        self.peer = peer
        self.breaks = breaks
        self.version = ""
        self.protocol = 0
        self.began_at = time.monotonic()
        self.heard_at = time.monotonic()
        self.closed = asyncio.Event()
        self.close_reason = ""
        self._messages: collections.deque[wire.ConnectResponse] = collections.deque()
        self._acks: dict[str, wire.LogAck] = {}
        self._wake = asyncio.Event()

    def send(self, message: wire.ConnectResponse) -> None:
        """Put a message on its way; a worker that reads nothing is disconnected."""
        if len(self._messages) >= OUTBOX_LIMIT:
            self.close("the worker does not read its messages")
            return
        self._messages.append(message)
        self._wake.set()

    def acknowledge(self, ack: wire.LogAck) -> None:
        """Tell the worker how far a log is durable."""
        if not self._acks:
            self._wake.set()
        self._acks[ack.attempt_uid] = ack

    def end(self, reason: str) -> None:
        """Tell the worker that its session is over, and end this connection once that was sent."""
        self.send(wire.ConnectResponse(closed=wire.SessionClosed(reason=reason)))
        self.close(reason)

    def close(self, reason: str) -> None:
        """End this connection; the worker's session goes on unless its worker is removed."""
        if not self.closed.is_set():
            self.close_reason = reason
            self.closed.set()
            self._wake.set()

    async def outgoing(self) -> list[wire.ConnectResponse]:
        """Wait for messages and take them; none once the session is closed and everything was taken."""
        while not self._messages and not self._acks and not self.closed.is_set():
            self._wake.clear()
            await self._wake.wait()
        if not self._messages and not self.closed.is_set():
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACK_SECONDS):
                    await self._wake.wait()
        # Acknowledgements first: what a result is answered with must not overtake those of its log.
        taken = [wire.ConnectResponse(log_ack=ack) for ack in self._acks.values()]
        self._acks.clear()
        taken += self._messages
        self._messages.clear()
        return taken


class Sessions:
    """Which worker is connected by which session. A worker's newest connection replaces the one before."""

    def __init__(self) -> None:
        self._by_worker: dict[str, Session] = {}
        #: When a worker was last heard of, in monotonic seconds; kept after its connection is gone.
        self._heard: dict[str, float] = {}
        #: Workers' last streams, where they were broken off: their TCP connections, and how many there were in a row.
        self._broken: dict[str, tuple[str, int]] = {}
        #: What was refused to workers since the start: registrations, sessions, hellos, and what broke the protocol.
        self.refusals: collections.Counter[str] = collections.Counter()

    def refused(self, kind: Literal["register", "session", "hello", "protocol"], reason: str, **names: str) -> None:
        """Count a refusal and log it, once.

        :param names: who it was, as far as that is known; never a token.
        """
        self.refusals[kind] += 1
        _log.warning(f"worker.{kind}_refused", reason=reason, refused=self.refusals[kind], **names)

    def connect(self, worker_id: str, peer: str = "") -> Session:
        """Make the worker's new session the current one.

        :param peer: the other end of its TCP connection.
        """
        old = self._by_worker.get(worker_id)
        broken_on, breaks = self._broken.pop(worker_id, ("", 0))
        session = Session(worker_id, peer, breaks if broken_on == peer else 0)
        self._by_worker[worker_id] = session
        if old is not None:
            old.close("the worker has connected again")
        return session

    def disconnect(self, session: Session, moments: float = 0.0) -> None:
        """Take a session out, unless a newer one has replaced it (W34).

        :param moments: a stream that the worker ends within so many seconds of its hello counts as broken off.
        """
        if not session.closed.is_set() and time.monotonic() - session.began_at < moments:
            self._broken[session.worker_id] = (session.peer, session.breaks + 1)
        session.close("disconnected")
        if self._by_worker.get(session.worker_id) is session:
            del self._by_worker[session.worker_id]
            self._heard[session.worker_id] = session.heard_at

    def get(self, worker_id: str) -> Session | None:
        """Return the worker's current session."""
        return self._by_worker.get(worker_id)

    def connected(self) -> frozenset[str]:
        """Return the ids of all connected workers."""
        return frozenset(self._by_worker)

    def all(self) -> list[Session]:
        """Return every current session."""
        return list(self._by_worker.values())

    def registered(self, worker_id: str) -> None:
        """Note a registration: the worker is heard of before its first connection."""
        self._heard[worker_id] = time.monotonic()

    def silent_for(self, worker_id: str, since: float) -> float:
        """Return for how many seconds a worker was not heard of; from `since` (monotonic) where it never was."""
        session = self._by_worker.get(worker_id)
        heard = session.heard_at if session is not None else self._heard.get(worker_id, since)
        return time.monotonic() - max(heard, since)

    def forget(self, worker_id: str) -> None:
        """Drop what is known of a worker that is gone; a connection of it that is still being closed leaves nothing."""
        self._by_worker.pop(worker_id, None)
        self._heard.pop(worker_id, None)
        self._broken.pop(worker_id, None)
