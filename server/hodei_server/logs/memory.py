"""What the logs being written hold in memory, all together, and the bound on it."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """A log that keeps blocks in memory which can be read from the store as well."""

    def drop_recent(self) -> None:
        """Let go of them."""


class LogMemory:
    """Counts the bytes of blocks in memory: those that wait to be durable, and the newest durable ones for followers.

    Beyond the limit the logs that were written to least lately lose their newest blocks first (followers read the
    store), then no worker's stream is read on that has a block waiting: see `OpenLog.wait_for_room`.

    :param limit: bytes. Each log may have one block more.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._recent: dict[Holder, None] = {}

    @property
    def full(self) -> bool:
        """Whether more is held than there should be."""
        return self.held > self.limit

    def hold(self, size: int) -> None:
        """Count a block that came."""
        self.held += size
        while self.full and self._recent:
            least_lately = next(iter(self._recent))
            del self._recent[least_lately]
            least_lately.drop_recent()

    def release(self, size: int) -> None:
        """Count bytes that are let go."""
        self.held -= size

    def keeps_recent(self, log: Holder) -> None:
        """Note that a log has just got new blocks for its followers."""
        self._recent.pop(log, None)
        self._recent[log] = None

    def forget(self, log: Holder) -> None:
        """Note that a log has none any more."""
        self._recent.pop(log, None)
