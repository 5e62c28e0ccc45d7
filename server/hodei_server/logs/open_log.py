"""The log of one attempt while it is written."""

from __future__ import annotations

import asyncio
import collections
import math
import time
from collections.abc import Awaitable, Callable

import structlog

from hodei.checksum import add_checksums
from hodei_logstore.block import chunks_of, make_block
from hodei_logstore.contract import Append, Block, LogStore, LogStoreError, SegmentKey, StorageFullError, StoredBlock
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.instruments import LOG_ACKNOWLEDGEMENT, LOG_RECEIVED
from hodei_server.logs.changes import Change, wait_for
from hodei_server.logs.figures import Figures, add_figures
from hodei_server.logs.memory import LogMemory

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds between attempts to write to a full disk.
FULL_RETRY_SECONDS = 1.0


class LogOrderError(Exception):
    """A block begins behind the sequence that comes next: chunks are missing, or the worker lies."""


class LogClosedError(Exception):
    """The log has ended, or its writer was fenced."""


class OpenLog:
    """Takes blocks in order, has them made durable, and tells how far that is.

    :param begin_segment: commits a new segment's row and closes the one before it; awaited before the first byte of the
        new one is written.
    :param epoch: who may write: blocks of an older one are refused.
    :param segment_bytes: where a segment ends and the next begins.
    :param pending_bytes: how much may wait to be durable before its worker is kept waiting.
    :param recent_bytes: how much of the durable end is kept in memory for those who follow live.
    :param memory: bounds both, over all logs.
    """

    def __init__(
        self,
        attempt_uid: str,
        store: LogStore,
        *,
        epoch: int,
        segment: Figures,
        before: Figures,
        begin_segment: Callable[[Segment, int], Awaitable[None]],
        segment_bytes: int,
        pending_bytes: int,
        recent_bytes: int,
        memory: LogMemory,
    ) -> None:
        self.attempt_uid = attempt_uid
        self.epoch = epoch
        self.change = Change()
        #: Called with the next sequence whenever more has become durable.
        self.on_durable: Callable[[int], None] = lambda _sequence: None
        #: Since when it can be written again, in monotonic seconds: infinite while it can't be, 0 if it always could.
        self.writable_since = 0.0
        #: The open segment's durable figures.
        self.segment = segment
        #: Those of all closed segments together.
        self.before = before
        self.accepted = segment.next_sequence
        self.ended = False
        self._store = store
        self._begin_segment = begin_segment
        self._segment_bytes = segment_bytes
        self._pending_limit = pending_bytes
        self._recent_bytes = recent_bytes
        self._memory = memory
        self._recent: collections.deque[StoredBlock] = collections.deque()
        self._recent_held = 0
        #: Blocks that wait to be durable, each with when it came.
        self._pending: collections.deque[tuple[Block, float]] = collections.deque()
        self._pending_bytes = 0
        self._pump: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._roll_wanted = False

    @property
    def durable(self) -> int:
        """The sequence after the last durable chunk."""
        return self.segment.next_sequence

    @property
    def checksum(self) -> int:
        """The checksum of all that is durable."""
        return add_checksums(self.before.checksum, self.segment.checksum)

    @property
    def last_time(self) -> int:
        """Nanoseconds since the epoch of the newest durable chunk; 0 in an empty log."""
        return max(self.segment.last_time, self.before.last_time)

    def add(self, block: Block, epoch: int) -> None:
        """Take a block; `durable` tells later how far it got. What is there already is ignored.

        :raise LogOrderError: it does not follow what was taken before.
        :raise LogClosedError: the log has ended, or `epoch` is an older one.
        """
        if self.ended or epoch != self.epoch:
            raise LogClosedError(f"the log of attempt {self.attempt_uid} is no longer written by epoch {epoch}")
        if block.first_sequence > self.accepted:
            raise LogOrderError(f"a block begins with sequence {block.first_sequence}, but {self.accepted} comes next")
        if block.next_sequence <= self.accepted:
            return
        if block.first_sequence < self.accepted:
            rest = [chunk for chunk in chunks_of(block.data) if chunk.sequence >= self.accepted]
            block = make_block(rest)
        self.accepted = block.next_sequence
        self._pending.append((block, time.monotonic()))
        LOG_RECEIVED.inc(len(block.data))
        self._pending_bytes += len(block.data)
        self._memory.hold(len(block.data))
        self._start_pump()

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._write_pending(), name=f"log {self.attempt_uid}")

    def roll_older_than(self, age: float) -> None:
        """End the segment that is written to, if it has something in it and is older than `age`, in seconds."""
        if self.segment.size and not self.ended and time.monotonic() - self._began >= age:
            self._roll_wanted = True
            self._start_pump()

    async def wait_for_room(self) -> None:
        """Return once little enough waits to be durable: what slows a worker down to the disk's speed."""
        while not self.ended and (
            self._pending_bytes > self._pending_limit or (self._pending_bytes and self._memory.full)
        ):
            await wait_for(self.change.next_move(), None)

    def fence(self, epoch: int) -> None:
        """Let only `epoch` write from now on."""
        self.epoch = epoch

    async def flush(self) -> None:
        """Return once everything that was taken is durable, or the log has ended."""
        while self._pump is not None:
            await asyncio.shield(self._pump)

    async def close(self) -> None:
        """Take nothing more; return once no segment is on its way to be written or to be ended."""
        self.ended = True
        await self.flush()

    async def stop(self) -> None:
        """Give up what is not durable yet."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    def end(self) -> None:
        """Take nothing more, let go of what is in memory and wake all followers."""
        self.ended = True
        self.drop_recent()
        self._memory.release(self._pending_bytes)
        self._pending.clear()
        self._pending_bytes = 0
        self.change.moved()

    def drop_recent(self) -> None:
        """Let go of the durable blocks in memory; followers read the store."""
        self._memory.release(self._recent_held)
        self._memory.forget(self)
        self._recent.clear()
        self._recent_held = 0

    def recent(self, sequence: int, max_bytes: int) -> list[StoredBlock] | None:
        """Return durable blocks from `sequence` on from memory; None when they are not there any more."""
        if not self._recent or sequence < self._recent[0].first_sequence:
            return None
        found, size = [], 0
        for stored in reversed(self._recent):
            if stored.next_sequence <= sequence:
                break
            found.append(stored)
        found.reverse()
        for count, stored in enumerate(found, 1):
            size += len(stored.data)
            if size >= max_bytes:
                return found[:count]
        return found

    async def _write_pending(self) -> None:
        """Be the one task that writes this log, for as long as there is something to write."""
        try:
            while (self._pending or self._roll_wanted) and not self.ended:
                if self.segment.size >= self._segment_bytes or (self._roll_wanted and self.segment.size):
                    await self._roll()
                self._roll_wanted = False
                if not self._pending:
                    continue
                batch, size, came = [], self.segment.size, self._pending[0][1]
                while self._pending and size < self._segment_bytes:
                    block, _ = self._pending.popleft()
                    batch.append(block)
                    size += block.size
                await self._write(batch)
                LOG_ACKNOWLEDGEMENT.observe(time.monotonic() - came)
        finally:
            self._pump = None
            self.change.moved()

    async def _roll(self) -> None:
        closed = self.segment
        await self._begin_segment(closed.segment(self.attempt_uid, SegmentState.CLOSED), closed.next_sequence)
        self.before = add_figures(self.before, closed)
        self.segment = Figures(closed.next_sequence, closed.next_sequence)
        self._began = time.monotonic()

    async def _write(self, batch: list[Block]) -> None:
        while batch:
            key = SegmentKey(self.attempt_uid, self.segment.first_sequence)
            errors = await self._store.append([Append(key, block) for block in batch])
            rest: list[Block] = []
            failure: LogStoreError | None = None
            for block, error in zip(batch, errors, strict=True):
                if error is None:
                    self._advance(block)
                else:
                    failure = failure or error
                    rest.append(block)
            self.change.moved()
            self.on_durable(self.durable)
            batch = rest
            if failure is None:
                if self.writable_since == math.inf:
                    self.writable_since = time.monotonic()
                continue
            self.writable_since = math.inf
            _log.warning("log.write_failed", attempt_uid=self.attempt_uid, error=str(failure))
            # Nothing is acknowledged, so nothing is lost: the worker keeps it, and its job waits on a full pipe.
            await asyncio.sleep(FULL_RETRY_SECONDS)
            if self.ended:
                return
            if not isinstance(failure, StorageFullError) and self.segment.next_sequence > self.segment.first_sequence:
                # What can't be written to any more is left as it is; the log goes on behind it.
                await self._roll()

    def _advance(self, block: Block) -> None:
        self.segment.add(block)
        if self.ended:
            return
        self._pending_bytes -= len(block.data)
        self._recent.append(StoredBlock(block.first_sequence, block.next_sequence, block.data))
        self._recent_held += len(block.data)
        self._memory.keeps_recent(self)
        while self._recent_held > self._recent_bytes and len(self._recent) > 1:
            size = len(self._recent.popleft().data)
            self._recent_held -= size
            self._memory.release(size)
