"""Reads sealed segments in a bucket by their index: what is wanted, and more only where a reader goes on and on."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import operator
import time
from concurrent.futures import CancelledError, Executor, Future

from hodei_logstore import sealed
from hodei_logstore.contract import CorruptSegmentError, LogStoreError, SegmentKey, StoredBlock
from hodei_logstore.objects import object_name
from hodei_logstore.s3.bucket import Bucket
from hodei_logstore.s3.recent import Recent

#: Read from the end of an object at first: the footer and, as a rule, the index.
TAIL_BYTES = 16 << 10
MAX_INDEXES = 128
#: Seconds after which what was fetched ahead makes room for another reader: whoever it was for has gone, or is slow.
LEFT_AFTER = 60.0
#: Readers that may read on, and for whom nothing is fetched yet.
MAX_NOTES = 1024
#: Bytes of log that are fetched at once for a reader that goes on, at most.
MAX_STRETCH_BYTES = 16 << 20
#: Stretches of that size that are fetched before a reader that goes on has come to them; one of smaller ones.
STRETCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Stretch:
    """Frames that follow each other, fetched in one call.

    :param end: the place behind the last one.
    :param raw: bytes of log in them, about.
    """

    frames: list[bytes]
    end: int
    raw: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Coming:
    """What a reader that reads on will want next.

    :param wanted: bytes of log.
    :param future: of the fetch, where it has begun.
    :param since: when it began, by the monotonic clock.
    """

    wanted: int
    future: Future[_Stretch] | None = None
    since: float = 0.0


class RemoteSegments:
    """Sealed segments in a bucket. Every method blocks and may be called from any thread.

    :param fetchers: the threads that call `read`; they fetch ahead as well, at most half of them at a time.
    """

    def __init__(self, bucket: Bucket, fetchers: Executor) -> None:
        self._bucket = bucket
        self._fetchers = fetchers
        self._max_fetches = max(1, bucket.config.concurrency // 2)
        self._fetches: set[Future[_Stretch]] = set()
        self._indexes: Recent[SegmentKey, sealed.SealedIndex] = Recent(MAX_INDEXES)
        self._frames: Recent[tuple[SegmentKey, int], bytes] = Recent(bucket.config.cache_bytes)
        # Apart, so that neither pushes the other out: what is only noted takes no room.
        self._coming: Recent[tuple[SegmentKey, int], _Coming] = Recent(bucket.config.ahead_bytes)
        self._noted: Recent[tuple[SegmentKey, int], _Coming] = Recent(MAX_NOTES)

    def index(self, key: SegmentKey) -> sealed.SealedIndex:
        """Return a segment's index; one read of the object's end, two for a large one.

        :raise SegmentNotFoundError: there is no such object.
        """
        index = self._indexes.get(key)
        if index is not None:
            return index
        name = object_name(key)
        tail, length = self._bucket.get(name, None, TAIL_BYTES)
        start = length - len(tail)

        def pread(offset: int, size: int) -> bytes:
            if offset >= start:
                return tail[offset - start : offset - start + size]
            return self._bucket.get(name, offset, size)[0]

        index = sealed.read_index(pread, length, key)
        for place, frame in enumerate(index.frames):
            if frame.offset >= start:
                self._frames.put((key, place), pread(frame.offset, frame.length), frame.length)
        self._indexes.put(key, index)
        return index

    def examine(self, key: SegmentKey) -> None:
        """Look at the object's first bytes, which no read needs; see the contract of stores."""
        name = object_name(key)
        sealed.check_start(lambda offset, size: self._bucket.get(name, offset, size)[0], self.index(key))

    def read(self, key: SegmentKey, sequence: int, max_bytes: int) -> list[StoredBlock]:
        """Read blocks from the one that holds a sequence on; see the contract of stores."""
        index = self.index(key)
        if sequence >= index.info.next_sequence:
            return []

        def pread(offset: int, _size: int) -> bytes:
            place = bisect.bisect_left(index.frames, offset, key=operator.attrgetter("offset"))
            return self._frame(index, place, max_bytes)

        return sealed.read_blocks(pread, index, sequence, max_bytes)

    def _frame(self, index: sealed.SealedIndex, place: int, wanted: int) -> bytes:
        """Return a frame's compressed bytes, fetching those behind it with it as far as they are likely wanted.

        Whoever comes to the frame behind the last fetch is reading on: for them more is fetched at once, and before
        they have come to it.
        """
        key = index.info.key
        noted = self._noted.pop((key, place))
        coming = self._coming.pop((key, place)) or noted
        cached = self._frames.get((key, place)) if coming is None else None
        if cached is not None:
            return cached
        stretch = self._take(key, place, coming or _Coming(wanted))
        for number, data in enumerate(stretch.frames, place):
            self._frames.put((key, number), data, len(data))
        if coming is not None or stretch.end < len(index.frames):
            self._expect(index, stretch.end, min(2 * stretch.raw, MAX_STRETCH_BYTES), begin=coming is not None)
        return stretch.frames[0]

    def _take(self, key: SegmentKey, place: int, coming: _Coming) -> _Stretch:
        """Return what has been fetched ahead, or fetch it now."""
        future = coming.future
        # One that has not begun would wait for a thread, which may wait for such a one itself.
        if future is not None and not future.cancel():
            # What has failed before it was wanted is tried again.
            with contextlib.suppress(LogStoreError, CancelledError):
                return future.result()
        return self._fetch(key, place, coming.wanted)

    def _fetch(self, key: SegmentKey, place: int, wanted: int) -> _Stretch:
        index = self.index(key)
        end, raw = _end(index, place, wanted)
        frames = index.frames[place:end]
        start = frames[0].offset
        size = frames[-1].offset + frames[-1].length - start
        data, _ = self._bucket.get(object_name(key), start, size)
        if len(data) != size:
            raise CorruptSegmentError(f"the object of {key} is cut off")
        pieces = [data[frame.offset - start : frame.offset - start + frame.length] for frame in frames]
        return _Stretch(pieces, end, raw)

    def _expect(self, index: sealed.SealedIndex, place: int, wanted: int, *, begin: bool) -> None:
        """Note what a reader will want next if it reads on: in the next segment, if this one ends there.

        :param begin: to fetch it.
        """
        key = index.info.key
        for _ in range(STRETCHES_AHEAD if wanted == MAX_STRETCH_BYTES else 1):
            whole = place == len(index.frames)
            at = (SegmentKey(key.attempt_uid, index.info.next_sequence), 0) if whole else (key, place)
            known = self._coming.get(at) or self._noted.get(at)
            if known is None or known.future is None:
                self._note(at, known.wanted if known else wanted, begin=begin)
            if whole:
                return
            place, _ = _end(index, place, known.wanted if known else wanted)

    def _note(self, at: tuple[SegmentKey, int], wanted: int, *, begin: bool) -> None:
        if begin and len(self._fetches) < self._max_fetches and self._has_room(wanted):
            with contextlib.suppress(RuntimeError):  # the store is being closed
                future = self._fetchers.submit(self._fetch, *at, wanted)
                self._fetches.add(future)
                future.add_done_callback(self._fetches.discard)
                self._noted.pop(at)
                self._coming.put(at, _Coming(wanted, future, time.monotonic()), wanted)
                return
        self._noted.put(at, _Coming(wanted))

    def _has_room(self, wanted: int) -> bool:
        """Whether so much may be fetched ahead without pushing out what another reader comes to: that came twice."""
        before = time.monotonic() - LEFT_AFTER
        while self._coming.held + wanted > self._bucket.config.ahead_bytes:
            if not self._coming.pop_oldest(lambda each: each.since <= before):
                return False
        return True

    def forget(self, key: SegmentKey) -> None:
        """Let go of what is known of a segment."""
        self._indexes.pop(key)
        self._frames.pop_where(lambda each: each[0] == key)
        self._coming.pop_where(lambda each: each[0] == key)
        self._noted.pop_where(lambda each: each[0] == key)


def _end(index: sealed.SealedIndex, place: int, wanted: int) -> tuple[int, int]:
    """Return the place behind the frames that hold so much log, and how much they hold."""
    end, raw = place, 0
    while end < len(index.frames) and raw < wanted:
        raw += index.frames[end].raw_length
        end += 1
    return end, raw
