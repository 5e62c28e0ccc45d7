"""The contract of what keeps log segments.

A *segment* is a part of one attempt's log: consecutive chunks from a first sequence on. It is appended to while *open*,
and compressed and closed for good once *sealed*. The server writes a segment's row in its database before the first
`append`; the store knows nothing of jobs. Every store passes the one suite in `hodei_logstore.testing`.

Bytes of a block are opaque here but for what `BlockInfo` tells: a store never decodes chunks to serve a read, only to
seal.

Errors a store may raise, and no others:

    LogStoreError              something went wrong
    ├── SegmentNotFoundError   there is no such segment (never written, or removed)
    ├── SequenceError          an append that does not continue its segment, or one to a sealed segment
    ├── CorruptSegmentError    kept bytes don't match their checksum
    ├── StorageFullError       no room; what was acknowledged is safe, what was not is not kept
    └── StoreUnavailableError  where the bytes are can't be reached or refuses; trying again later may help
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class LogStoreError(Exception):
    """A log store could not do what it was asked."""


class SegmentNotFoundError(LogStoreError):
    """There is no such segment."""


class SequenceError(LogStoreError):
    """An append does not continue its segment."""


class CorruptSegmentError(LogStoreError):
    """Kept bytes don't match their checksum."""


class StorageFullError(LogStoreError):
    """There is no room for more."""


class StoreUnavailableError(LogStoreError):
    """Where the bytes are can't be reached, or refuses."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class SegmentKey:
    """Names a segment: the attempt's random uid (lower-case letters and digits) and the segment's first sequence."""

    attempt_uid: str
    first_sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Consecutive chunks in their encoded form (a `hodei.v1.LogBlock`), with what was learnt when they were parsed.

    :param data: the encoded block, kept and given back byte for byte.
    :param count: number of chunks, at least 1.
    :param size: bytes of log data in them.
    :param lines: newline bytes in them.
    :param first_time: nanoseconds since the epoch of the first chunk; `last_time` of the last.
    :param checksum: sum of the chunks' checksums modulo 2**256 (see `hodei.checksum`).
    """

    data: bytes
    first_sequence: int
    count: int
    size: int
    lines: int
    first_time: int
    last_time: int
    checksum: int

    @property
    def next_sequence(self) -> int:
        """The sequence after the block's last chunk."""
        return self.first_sequence + self.count


@dataclasses.dataclass(frozen=True, slots=True)
class Append:
    """One block for one segment; the segment is made with its first block."""

    key: SegmentKey
    block: Block


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What a segment amounts to. Counts are of chunks that are durable.

    :param stored_bytes: what it takes on the store.
    :param first_time: nanoseconds since the epoch; 0 in an empty segment, as `last_time`.
    """

    key: SegmentKey
    next_sequence: int
    size: int
    lines: int
    first_time: int
    last_time: int
    checksum: int
    stored_bytes: int
    sealed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block as it was appended, and where it begins."""

    first_sequence: int
    next_sequence: int
    data: bytes


class LogStore(ABC):
    """Keeps segments. An asynchronous context manager; every method may be called at the same time as any other.

    Entering it recovers: torn records at the end of open segments (a crash in the middle of a write) are cut off, and
    what is left is what `segments` tells.
    """

    async def __aenter__(self) -> Self:
        """Open the store and recover. Does nothing by default."""
        return self

    async def __aexit__(  # noqa: B027 - a store without anything to close needs none
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store; what was appended is durable. Does nothing by default."""

    @abstractmethod
    async def append(self, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        """Append blocks of any number of segments, in order, and return when all are durable.

        :return: for each item of the batch, None when it is durable, else why it is not. A segment whose item failed
            takes no later item of the batch either. A failed append leaves no part of its block behind.
        """

    @abstractmethod
    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Return durable blocks from the one that holds `sequence` on, at least one, at most about `max_bytes`.

        Empty when `sequence` is the segment's next one or lies behind it. Reads an amount of the store that does not
        depend on the segment's size.

        :raise SegmentNotFoundError: there is no such segment.
        :raise CorruptSegmentError: a record does not match its checksum.
        """

    @abstractmethod
    async def find_time(self, key: SegmentKey, time_unix_nanos: int) -> int:
        """Return the first sequence of a block that may hold chunks at or after a time; the next sequence if none does.

        :raise SegmentNotFoundError: there is no such segment.
        """

    @abstractmethod
    async def find_tail(self, key: SegmentKey, lines: int) -> tuple[int, int]:
        """Find where the segment's last lines begin, roughly: whole index entries, read back to front.

        :param lines: how many newline bytes to have at least, if the segment has as many.
        :return: a block's first sequence, and the number of newline bytes from that block to the end.
        :raise SegmentNotFoundError: there is no such segment.
        """

    @abstractmethod
    async def info(self, key: SegmentKey) -> SegmentInfo:
        """Tell what a segment amounts to.

        :raise SegmentNotFoundError: there is no such segment.
        """

    async def forget(self, key: SegmentKey) -> None:  # noqa: B027 - a store that remembers nothing needs none
        """Let go of what is remembered of a segment: what is asked next is read anew. Does nothing by default."""

    async def examine(self, key: SegmentKey) -> None:  # noqa: B027 - a store that keeps blocks alone has nothing more
        """Look at what no read needs of a segment: the bytes that say what its file is. Does nothing by default.

        Together with reading all of its blocks, this looks at every byte that is kept of a sealed segment.

        :raise SegmentNotFoundError: there is no such segment.
        :raise CorruptSegmentError: they are not as they were written.
        """

    @abstractmethod
    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close a segment for good and compress it. Idempotent. Readers that are on it go on undisturbed.

        The open form goes only when the sealed one is durable and was verified. A crash in between loses nothing. A
        store may keep a small segment in the form it has.

        :raise SegmentNotFoundError: there is no such segment.
        """

    @abstractmethod
    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments, open or sealed; one that is not there is fine.

        Readers on one may fail with SegmentNotFoundError.
        """

    async def stored_bytes(self, keys: Sequence[SegmentKey]) -> int:
        """Return what segments take on the store; one that is not there takes nothing."""
        found = 0
        for key in keys:
            try:
                found += (await self.info(key)).stored_bytes
            except SegmentNotFoundError:
                continue
        return found

    @abstractmethod
    async def segments(self, after: SegmentKey | None = None, limit: int = 1000) -> Sequence[SegmentKey]:
        """Return what is kept, a page in key order, for the comparison with the database."""
