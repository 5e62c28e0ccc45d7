"""What a worker has of a log until the server has it: in memory first, then in a file, in order, without a gap."""

from __future__ import annotations

import collections
import dataclasses
import errno
import struct
import time
from pathlib import Path
from typing import BinaryIO

from hodei.checksum import add_checksums, chunk_checksum
from hodei.encoding import field_prefix
from hodei.v1 import log_pb2 as wire

#: Bytes of encoded chunks in one block, about.
BLOCK_BYTES = 512 << 10
#: Bytes sent and not yet acknowledged, at most.
WINDOW_BYTES = 8 << 20
#: Seconds after an acknowledgement for which a full memory keeps the job waiting before the log goes on in a file:
#: a server that keeps up needs none.
PATIENCE = 0.2
_RECORD = struct.Struct("<QQI")


@dataclasses.dataclass(frozen=True, slots=True)
class OutgoingBlock:
    """Consecutive chunks, encoded as a `hodei.v1.LogBlock`."""

    first_sequence: int
    next_sequence: int
    data: bytes


class Spool:
    """A file of blocks, first in, first out: a ring, in which what was read makes room for what comes.

    It need not survive its worker: the log ends with that.

    :param limit: bytes in it from which on it is `full`. The file is larger by two blocks at most: the last one begins
        below the limit.
    :ivar size: bytes that wait in it.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._capacity = limit + 2 * BLOCK_BYTES
        self._file: BinaryIO | None = None
        self._read_at = 0
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether nothing more should be put into it."""
        return self.size >= self._limit

    def put(self, block: OutgoingBlock) -> None:
        """Append a block.

        :raise OSError: there is no room; nothing of the block is kept.
        """
        record = _RECORD.pack(block.first_sequence, block.next_sequence, len(block.data)) + block.data
        if self.size + len(record) > self._capacity:
            raise OSError(errno.ENOSPC, f"the spool {self._path} is full")
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w+b", buffering=0)
        end = self._read_at + self.size
        view, place = memoryview(record), end
        try:
            while view:
                at = self._file.seek(place % self._capacity)
                written = self._file.write(view[: self._capacity - at])
                view, place = view[written:], place + written
        except OSError:
            # Behind the end is nothing, unless that has come round to the file's beginning.
            self._file.truncate(min(end, self._capacity))
            raise
        self.size += len(record)

    def get(self) -> OutgoingBlock:
        """Take the oldest block. There must be one."""
        assert self._file is not None  # noqa: S101 - `size` told the caller
        first, following, length = _RECORD.unpack(self._read(self._file, self._read_at, _RECORD.size))
        data = self._read(self._file, self._read_at + _RECORD.size, length)
        self._read_at = (self._read_at + _RECORD.size + length) % self._capacity
        self.size -= _RECORD.size + length
        if not self.size:
            self._file.truncate(0)
            self._read_at = 0
        return OutgoingBlock(first, following, data)

    def _read(self, file: BinaryIO, place: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            at = file.seek((place + len(data)) % self._capacity)
            piece = file.read(min(length - len(data), self._capacity - at))
            if not piece:
                raise OSError(f"the spool {self._path} was cut short")
            data += piece
        return bytes(data)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None


class Outbox:
    """One log on its way. Numbers chunks, encodes each once, keeps them until they are acknowledged.

    :param memory_limit: bytes kept in memory; what is more goes to `spool`. Where that is full, so is this: `full` is
        True and the job's pipes must not be read. It is True for a moment, too, where memory is full and the server has
        just acknowledged something.
    :ivar next_sequence: of the next new chunk.
    :param checksum: of what precedes the first sequence.
    :ivar checksum: of all chunks together, as `hodei.checksum` defines it.
    """

    def __init__(self, first_sequence: int, spool: Spool, *, memory_limit: int, checksum: int = 0) -> None:
        self.next_sequence = first_sequence
        self.acknowledged = first_sequence
        self.size = 0
        self.checksum = checksum
        self._spool = spool
        self._memory_limit = memory_limit
        self._time = 0
        self._building: list[bytes] = []
        self._building_bytes = 0
        self._building_first = first_sequence
        self._ready: collections.deque[OutgoingBlock] = collections.deque()
        self._sent: collections.deque[OutgoingBlock] = collections.deque()
        self._sent_bytes = 0
        #: What the file had no room for, to follow what is in it.
        self._behind: collections.deque[OutgoingBlock] = collections.deque()
        self._held = 0
        self._spool_failed = False
        self._patient_until = 0.0

    @property
    def full(self) -> bool:
        """Whether nothing more should be read before something is acknowledged."""
        if self._spool.size:
            return self._spool_failed or self._spool.full
        if self._held < self._memory_limit:
            return False
        return self._spool_failed or self._spool.full or time.monotonic() < self._patient_until

    @property
    def everything_sent(self) -> bool:
        """Whether nothing waits to be sent on this connection."""
        return not (self._building or self._ready or self._spool.size)

    def add(self, stream: wire.LogStream.ValueType, data: bytes, time_unix_nanos: int) -> None:
        """Number a chunk of at most 64 KiB; its time is never less than that of the one before."""
        sequence = self.next_sequence
        self._time = max(self._time, time_unix_nanos)
        # A chunk's data is its last field.
        head = wire.LogChunk(sequence=sequence, time_unix_nanos=self._time, stream=stream).SerializeToString()
        if data:
            head += field_prefix(wire.LogChunk.DATA_FIELD_NUMBER, len(data))
        self.checksum = add_checksums(self.checksum, chunk_checksum(sequence, stream, data))
        self.size += len(data)
        self.next_sequence = sequence + 1
        if not self._building:
            self._building_first = sequence
        length = len(head) + len(data)
        self._building += (field_prefix(wire.LogBlock.CHUNKS_FIELD_NUMBER, length), head, data)
        self._building_bytes += length
        if self._building_bytes >= BLOCK_BYTES:
            self._finish_block()

    def _finish_block(self) -> None:
        block = OutgoingBlock(self._building_first, self.next_sequence, b"".join(self._building))
        self._building, self._building_bytes = [], 0
        if not self._spool_failed and (self._held >= self._memory_limit or self._spool.size):
            try:
                self._spool.put(block)
            except OSError:
                # The disk is full: what was read stays in memory, and nothing more is read.
                self._spool_failed = True
            else:
                return
        if self._spool.size:
            self._behind.append(block)
        else:
            self._hold(block)

    def _hold(self, block: OutgoingBlock) -> None:
        self._ready.append(block)
        self._held += len(block.data)

    def _refill(self) -> None:
        while self._spool.size and self._held < self._memory_limit:
            self._hold(self._spool.get())
        while self._behind and not self._spool.size:
            self._hold(self._behind.popleft())

    def take(self) -> OutgoingBlock | None:
        """Return the next block to send; None when there is none, or too much is not acknowledged."""
        if self._sent_bytes >= WINDOW_BYTES:
            return None
        if not self._ready and self._spool.size:
            self._refill()
        if not self._ready and not self._spool.size and self._building:
            self._finish_block()
        if not self._ready:
            return None
        block = self._ready.popleft()
        self._sent.append(block)
        self._sent_bytes += len(block.data)
        return block

    def acknowledge(self, next_sequence: int) -> None:
        """Let go of what is durable on the server."""
        if next_sequence > self.acknowledged:
            self._patient_until = time.monotonic() + PATIENCE
        self._sent_bytes -= self._let_go(self._sent, next_sequence)
        self._refill()

    def rewind(self, next_sequence: int) -> None:
        """Begin a new connection: send again what is not known to be durable."""
        self._ready.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_bytes = 0
        self._let_go(self._ready, next_sequence)

    def _let_go(self, blocks: collections.deque[OutgoingBlock], next_sequence: int) -> int:
        """Drop the blocks that are durable; return their bytes."""
        size = 0
        while blocks and blocks[0].next_sequence <= next_sequence:
            size += len(blocks.popleft().data)
        self._held -= size
        self.acknowledged = max(self.acknowledged, next_sequence)
        if size and not self._spool.size:
            self._spool_failed = False
        return size

    def close(self) -> None:
        """Forget everything."""
        self._spool.close()
