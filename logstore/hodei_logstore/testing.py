"""The one suite that every log store passes. Subclass `LogStoreContract` and give it a `store` fixture.

    class TestMyStore(LogStoreContract):
        @pytest.fixture
        async def store(self):
            async with MyStore() as opened:
                yield opened

It runs by pytest with pytest-asyncio, whose `asyncio_mode` is `auto`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from hodei.checksum import add_checksums
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of, make_block
from hodei_logstore.contract import Append, Block, LogStore, SegmentKey, SegmentNotFoundError, SequenceError

KEY = SegmentKey("abcdefghij", 0)


def block(first: int, *data: bytes, time: int | None = None) -> Block:
    """Return a block of chunks with some data, at a time of nanoseconds that follows its sequence unless given."""
    return make_block(
        wire.LogChunk(
            sequence=first + place,
            time_unix_nanos=first + place + 1 if time is None else time,
            stream=wire.LOG_STREAM_STDOUT,
            data=piece,
        )
        for place, piece in enumerate(data)
    )


def lines(count: int, first: int = 0, per_block: int = 10) -> list[Block]:
    """Return blocks of numbered lines, one a chunk."""
    return [
        block(start, *(b"line %d\n" % number for number in range(start, min(start + per_block, first + count))))
        for start in range(first, first + count, per_block)
    ]


async def append_all(store: LogStore, key: SegmentKey, blocks: Sequence[Block]) -> None:
    """Append blocks, which must succeed."""
    errors = await store.append([Append(key, each) for each in blocks])
    assert list(errors) == [None] * len(blocks)


async def read_all(store: LogStore, key: SegmentKey, sequence: int = 0, max_bytes: int = 1 << 20) -> list[bytes]:
    """Return the data of each chunk from a sequence on, read piece by piece."""
    found: list[bytes] = []
    while True:
        blocks = await store.read(key, sequence, max_bytes=max_bytes)
        if not blocks:
            return found
        assert blocks[0].first_sequence <= sequence < blocks[0].next_sequence
        for stored in blocks:
            found += [chunk.data for chunk in chunks_of(stored.data) if chunk.sequence >= sequence]
            sequence = stored.next_sequence


class LogStoreContract:
    """What every store does. Each test runs on an open segment and, where that makes sense, on a sealed one."""

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_what_was_appended_is_read_from_any_sequence(self, store: LogStore, *, sealed: bool) -> None:
        """L04: exactly the chunks from there on, in order."""
        await append_all(store, KEY, lines(100))
        if sealed:
            await store.seal(KEY)
        for sequence in (0, 1, 9, 10, 55, 99):
            expected = [b"line %d\n" % number for number in range(sequence, 100)]
            assert await read_all(store, KEY, sequence) == expected
            assert await read_all(store, KEY, sequence, max_bytes=1) == expected
        assert not await store.read(KEY, 100)
        assert not await store.read(KEY, 1000)

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_info_tells_what_there_is(self, store: LogStore, *, sealed: bool) -> None:
        """Counts, times and checksum are those of the blocks, sealed or not."""
        blocks = lines(50)
        await append_all(store, KEY, blocks)
        info = await store.seal(KEY) if sealed else await store.info(KEY)
        assert info == await store.info(KEY)
        assert (info.next_sequence, info.lines, info.sealed) == (50, 50, sealed)
        assert info.size == sum(each.size for each in blocks)
        assert info.checksum == add_checksums(*(each.checksum for each in blocks))
        assert (info.first_time, info.last_time) == (1, 50)

    async def test_bytes_are_kept_as_they_came(self, store: LogStore) -> None:
        """L12: a block comes back in the bytes it was encoded in."""
        appended = block(0, bytes(range(256)), b"", b"\0" * 1000)
        await append_all(store, KEY, [appended])
        assert [each.data for each in await store.read(KEY, 0)] == [appended.data]
        await store.seal(KEY)
        assert [each.data for each in await store.read(KEY, 0)] == [appended.data]

    async def test_an_append_out_of_order_is_refused_and_harms_nothing(self, store: LogStore) -> None:
        """A gap or a repeat leaves the segment as it was, and stops the rest of its batch."""
        await append_all(store, KEY, [block(0, b"a", b"b")])
        for wrong in (block(3, b"x"), block(1, b"x"), block(0, b"x")):
            errors = await store.append([Append(KEY, wrong), Append(KEY, block(2, b"y"))])
            assert all(isinstance(error, SequenceError) for error in errors)
        assert await read_all(store, KEY) == [b"a", b"b"]
        await append_all(store, KEY, [block(2, b"c")])
        assert await read_all(store, KEY) == [b"a", b"b", b"c"]

    async def test_a_batch_serves_many_segments_each_for_itself(self, store: LogStore) -> None:
        """One segment's failure is not another's."""
        good, bad = SegmentKey("aagood", 0), SegmentKey("bbbad", 0)
        errors = await store.append(
            [Append(good, block(0, b"1")), Append(bad, block(5, b"x")), Append(good, block(1, b"2"))]
        )
        assert [error is None for error in errors] == [True, False, True]
        assert await read_all(store, good) == [b"1", b"2"]

    async def test_a_segment_may_begin_anywhere(self, store: LogStore) -> None:
        """Two segments of one log are two."""
        later = SegmentKey(KEY.attempt_uid, 7)
        await append_all(store, KEY, [block(0, *[b"x"] * 7)])
        await append_all(store, later, [block(7, b"y")])
        assert await read_all(store, later, 7) == [b"y"]
        assert (await store.info(KEY)).next_sequence == 7

    async def test_a_sealed_segment_takes_nothing_more(self, store: LogStore) -> None:
        """Sealing is for good, and may be asked for again."""
        await append_all(store, KEY, lines(10))
        first = await store.seal(KEY)
        assert await store.seal(KEY) == first
        errors = await store.append([Append(KEY, block(10, b"x"))])
        assert isinstance(errors[0], SequenceError)

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_a_time_is_found_at_or_before_its_first_chunk(self, store: LogStore, *, sealed: bool) -> None:
        """Never too late: no chunk at or after the time is left out."""
        await append_all(store, KEY, [block(number, b"x" * 1000, time=number * 10) for number in range(500)])
        if sealed:
            await store.seal(KEY)
        for time in (0, 5, 2500, 4990):
            assert await store.find_time(KEY, time) <= -(-time // 10)
        assert await store.find_time(KEY, 5000) == 500

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_the_tail_is_found_with_enough_lines(self, store: LogStore, *, sealed: bool) -> None:
        """The place has as many newlines behind it as were asked for, if there are as many."""
        await append_all(store, KEY, lines(5000))
        if sealed:
            await store.seal(KEY)
        for wanted in (1, 100, 4999, 5000):
            sequence, found = await store.find_tail(KEY, wanted)
            assert found == 5000 - sequence
            assert found >= wanted
        assert await store.find_tail(KEY, 10_000) == (0, 5000)

    async def test_what_is_not_there_is_told(self, store: LogStore) -> None:
        """L25: by an error of its own, from every question."""
        with pytest.raises(SegmentNotFoundError):
            await store.read(KEY, 0)
        with pytest.raises(SegmentNotFoundError):
            await store.info(KEY)
        with pytest.raises(SegmentNotFoundError):
            await store.seal(KEY)
        with pytest.raises(SegmentNotFoundError):
            await store.find_tail(KEY, 1)

    async def test_removed_segments_are_gone(self, store: LogStore) -> None:
        """Open or sealed; removing what is not there is fine."""
        keys = [SegmentKey(f"remove{number}", 0) for number in range(3)]
        for key in keys:
            await append_all(store, key, [block(0, b"x")])
        await store.seal(keys[0])
        await store.remove([*keys[:2], SegmentKey("never", 0)])
        assert await store.segments() == [keys[2]]
        with pytest.raises(SegmentNotFoundError):
            await store.read(keys[0], 0)

    async def test_segments_are_listed_in_order_page_by_page(self, store: LogStore) -> None:
        """Each once, however small the pages are."""
        keys = sorted(SegmentKey(f"{letter}{letter}log", first) for letter in "acbd" for first in (0, 10, 9))
        for key in keys:
            await append_all(store, key, [block(key.first_sequence, b"x")])
        found: list[SegmentKey] = []
        while page := await store.segments(found[-1] if found else None, 5):
            found += page
        assert found == keys

    async def test_readers_beside_writers_never_see_a_gap(self, store: LogStore) -> None:
        """L04: what is read is always a beginning of what is written."""
        keys = [SegmentKey(f"both{number}", 0) for number in range(8)]

        async def write(key: SegmentKey) -> None:
            for each in lines(300):
                await append_all(store, key, [each])

        async def follow(key: SegmentKey) -> list[bytes]:
            found: list[bytes] = []
            while len(found) < 300:
                with contextlib.suppress(SegmentNotFoundError):
                    found += await read_all(store, key, len(found))
                await asyncio.sleep(0)
            return found

        followed = await asyncio.gather(*(follow(key) for key in keys), *(write(key) for key in keys))
        for found in followed[: len(keys)]:
            assert found == [b"line %d\n" % number for number in range(300)]
