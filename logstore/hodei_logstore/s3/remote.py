"""Reads sealed segments in a bucket by their index: what is wanted, and more only where a reader goes on and on."""

from __future__ import annotations

from hodei_logstore import sealed
from hodei_logstore.contract import CorruptSegmentError, SegmentKey, StoredBlock
from hodei_logstore.objects import object_name
from hodei_logstore.s3.bucket import Bucket
from hodei_logstore.s3.recent import Recent

#: Read from the end of an object at first: the footer and, as a rule, the index.
TAIL_BYTES = 16 << 10
MAX_INDEXES = 128
#: Compressed frames that were fetched and may be wanted soon, in bytes, of all readers together.
CACHE_BYTES = 64 << 20
#: Bytes of log that are fetched at once for a reader that goes on, at most.
MAX_AHEAD_BYTES = 16 << 20
MAX_READERS = 1024


class RemoteSegments:
    """Sealed segments in a bucket. Every method blocks and may be called from any thread."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._indexes: Recent[SegmentKey, sealed.SealedIndex] = Recent(MAX_INDEXES)
        self._frames: Recent[tuple[SegmentKey, int], bytes] = Recent(CACHE_BYTES)
        self._ahead: Recent[tuple[SegmentKey, int], int] = Recent(MAX_READERS)

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
        places = {frame.offset: place for place, frame in enumerate(index.frames)}

        def pread(offset: int, _size: int) -> bytes:
            return self._frame(index, places[offset], max_bytes)

        return sealed.read_blocks(pread, index, sequence, max_bytes)

    def _frame(self, index: sealed.SealedIndex, place: int, wanted: int) -> bytes:
        """Return a frame's compressed bytes, fetching those behind it with it as far as they are likely wanted.

        Whoever comes to the frame behind the last fetch is reading on: each such fetch takes twice as much.
        """
        key = index.info.key
        cached = self._frames.get((key, place))
        if cached is not None:
            return cached
        wanted = max(self._ahead.pop((key, place)) or 0, wanted)
        end, raw = place, 0
        while end < len(index.frames) and raw < wanted:
            raw += index.frames[end].raw_length
            end += 1
        frames = index.frames[place:end]
        start = frames[0].offset
        size = frames[-1].offset + frames[-1].length - start
        data, _ = self._bucket.get(object_name(key), start, size)
        if len(data) != size:
            raise CorruptSegmentError(f"the object of {key} is cut off")
        for number, frame in enumerate(frames, place):
            piece = data[frame.offset - start : frame.offset - start + frame.length]
            self._frames.put((key, number), piece, frame.length)
        self._ahead.put((key, end), min(2 * raw, MAX_AHEAD_BYTES))
        return data[: frames[0].length]

    def forget(self, key: SegmentKey) -> None:
        """Let go of what is known of a segment."""
        self._indexes.pop(key)
        self._frames.pop_where(lambda each: each[0] == key)
