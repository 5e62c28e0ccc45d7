"""The stores pass the suite; the file store survives what files suffer."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from hodei_faults import descriptors
from hodei_logstore import sealed
from hodei_logstore.contract import (
    Append,
    CorruptSegmentError,
    LogStore,
    LogStoreError,
    SegmentKey,
    SegmentNotFoundError,
    StorageFullError,
)
from hodei_logstore.file import FileLogStore
from hodei_logstore.memory import MemoryLogStore
from hodei_logstore.testing import KEY, LogStoreContract, append_all, block, lines, read_all


class TestMemoryLogStore(LogStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[LogStore]:
        """Return an empty store."""
        async with MemoryLogStore() as opened:
            yield opened


class TestFileLogStore(LogStoreContract):
    @pytest.fixture(params=["power", "process", "small"])
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogStore]:
        """Return an empty store in a folder of the test's; "small" takes every segment for one."""
        durability: Literal["power", "process"] = "process" if request.param == "process" else "power"
        small_bytes = 1 << 30 if request.param == "small" else 0
        async with FileLogStore(tmp_path / "logs", durability=durability, small_bytes=small_bytes) as opened:
            yield opened


async def fill(root: Path, count: int = 100) -> Path:
    """Write numbered lines and return the open segment's file."""
    async with FileLogStore(root) as store:
        await append_all(store, KEY, lines(count))
    return next(root.rglob("*.open"))


async def test_a_new_store_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """What was acknowledged is there, and is appended to."""
    await fill(tmp_path)
    async with FileLogStore(tmp_path) as store:
        assert (await store.info(KEY)).next_sequence == 100
        await append_all(store, KEY, [block(100, b"more\n")])
        assert (await read_all(store, KEY))[-2:] == [b"line 99\n", b"more\n"]


async def test_a_torn_last_record_is_cut_at_every_byte(tmp_path: Path) -> None:
    """A crash in the middle of a write costs only what was not acknowledged, and never the start."""
    file = await fill(tmp_path, 20)
    whole = file.read_bytes()
    async with FileLogStore(tmp_path / "one") as store:
        await append_all(store, KEY, lines(10))
    kept = next((tmp_path / "one").rglob("*.open")).stat().st_size
    for end in range(kept, len(whole)):
        file.write_bytes(whole[:end])
        async with FileLogStore(tmp_path) as store:
            assert (await store.info(KEY)).next_sequence == 10
            assert file.stat().st_size == kept
            await append_all(store, KEY, [block(10, b"again\n")])
            assert (await read_all(store, KEY))[-1] == b"again\n"


@pytest.mark.parametrize("garbage", [b"\0" * 500, b"\xff" * 500, os.urandom(500), b"HODEILG1"], ids=range(4))
async def test_garbage_behind_the_last_record_is_cut(tmp_path: Path, garbage: bytes) -> None:
    """Whatever the disk left there."""
    file = await fill(tmp_path)
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + garbage)
    async with FileLogStore(tmp_path) as store:
        assert (await store.info(KEY)).next_sequence == 100
        assert file.stat().st_size == size


async def test_a_damaged_record_is_told_not_served(tmp_path: Path) -> None:
    """A flipped bit under what is durable is an error of its own."""
    async with FileLogStore(tmp_path) as store:
        await append_all(store, KEY, lines(100))
        file = next(tmp_path.rglob("*.open"))
        data = bytearray(file.read_bytes())
        data[-5] ^= 1
        file.write_bytes(data)
        with pytest.raises(CorruptSegmentError):
            await read_all(store, KEY)


async def test_a_crash_while_sealing_loses_nothing(tmp_path: Path) -> None:
    """L20: with both forms there, a sealed one that is whole wins; a broken one goes."""
    file = await fill(tmp_path)
    opened = file.read_bytes()
    async with FileLogStore(tmp_path, small_bytes=0) as store:
        await store.seal(KEY)
    sealed = next(tmp_path.rglob("*.sealed"))
    whole = sealed.read_bytes()
    expected = [b"line %d\n" % number for number in range(100)]
    for content in (whole, whole[:-1], whole[: len(whole) // 2], b"", whole[:20] + b"x" + whole[21:]):
        sealed.write_bytes(content)
        file.write_bytes(opened)
        async with FileLogStore(tmp_path) as store:
            assert await read_all(store, KEY) == expected
            assert (await store.seal(KEY)).next_sequence == 100
            assert await read_all(store, KEY) == expected
        assert not file.exists()


async def test_a_segment_that_is_removed_while_it_is_sealed_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped for its log's budget just then: no sealed form of it comes afterwards."""
    real, sealing, go_on = sealed.verify, threading.Event(), threading.Event()

    def slow(pread: sealed.Pread, index: sealed.SealedIndex) -> None:
        real(pread, index)
        sealing.set()
        assert go_on.wait(60)

    monkeypatch.setattr(sealed, "verify", slow)
    async with FileLogStore(tmp_path, small_bytes=0) as store:
        await append_all(store, KEY, lines(100))
        task = asyncio.create_task(store.seal(KEY))
        assert await asyncio.to_thread(sealing.wait, 60)
        await store.remove([KEY])
        go_on.set()
        with pytest.raises(SegmentNotFoundError):
            await task
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The append fails as a whole; when there is room again it goes on."""
    async with FileLogStore(tmp_path) as store:
        await append_all(store, KEY, lines(10))
        size = next(tmp_path.rglob("*.open")).stat().st_size
        real = os.pwritev

        def full(descriptor: int, pieces: Any, offset: int) -> int:
            if offset == size:
                return real(descriptor, [pieces[0][:4]], offset)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwritev", full)
        errors = await store.append([Append(KEY, block(10, b"lost"))])
        assert isinstance(errors[0], StorageFullError)
        assert next(tmp_path.rglob("*.open")).stat().st_size == size
        monkeypatch.setattr(os, "pwritev", real)
        await append_all(store, KEY, [block(10, b"kept")])
        assert (await read_all(store, KEY))[-1] == b"kept"


async def test_a_write_that_takes_a_little_at_a_time_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system may write less than it is given, and ends in the middle of a piece."""
    async with FileLogStore(tmp_path) as store:
        real = os.pwritev
        monkeypatch.setattr(os, "pwritev", lambda descriptor, pieces, offset: real(descriptor, [pieces[0][:7]], offset))
        await append_all(store, KEY, lines(25))
    async with FileLogStore(tmp_path) as store:
        assert await read_all(store, KEY) == [b"line %d\n" % number for number in range(25)]


async def test_after_a_failed_fsync_nothing_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fsync proves nothing of pages that the first one lost: the segment takes no more."""
    async with FileLogStore(tmp_path) as store:
        await append_all(store, KEY, lines(10))

        def fails(_descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            errors = await store.append([Append(KEY, block(10, b"lost"))])
            assert isinstance(errors[0], LogStoreError)
        assert len(await read_all(store, KEY)) == 10
        errors = await store.append([Append(KEY, block(10, b"lost"))])
        assert isinstance(errors[0], LogStoreError)


async def test_the_middle_of_a_sealed_segment_is_read_without_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes read do not grow with the segment."""
    async with FileLogStore(tmp_path) as store:
        blocks = [block(number, os.urandom(60_000)) for number in range(200)]
        await append_all(store, KEY, blocks)
        info = await store.seal(KEY)
        read = 0
        real = os.pread

        def counting(descriptor: int, size: int, offset: int) -> bytes:
            nonlocal read
            data = real(descriptor, size, offset)
            read += len(data)
            return data

        monkeypatch.setattr(os, "pread", counting)
        found = await store.read(KEY, 100, max_bytes=1)
        assert found[0].first_sequence == 100
        assert read < info.stored_bytes / 20


async def test_sealing_makes_text_smaller(tmp_path: Path) -> None:
    """Compressed, and still the same."""
    async with FileLogStore(tmp_path) as store:
        text = b"".join(b"step %d of 5000 done\n" % number for number in range(5000))
        await append_all(store, KEY, [block(0, text[:60_000]), block(1, text[60_000:120_000])])
        before = (await store.info(KEY)).stored_bytes
        after = await store.seal(KEY)
        assert after.stored_bytes < before / 4
        assert not list(tmp_path.rglob("*.open"))


async def test_a_small_segment_is_sealed_as_it_is(tmp_path: Path) -> None:
    """Its bytes are durable already; a crash that takes the new name back harms nothing, nor does the next start."""
    file = await fill(tmp_path, 20)
    content = file.read_bytes()
    expected = [b"line %d\n" % number for number in range(20)]
    async with FileLogStore(tmp_path) as store:
        info = await store.seal(KEY)
        assert info.sealed
        assert [path.read_bytes() for path in tmp_path.rglob("*.closed")] == [content]
    async with FileLogStore(tmp_path) as store:
        assert await store.info(KEY) == info
        assert await read_all(store, KEY) == expected
        next(tmp_path.rglob("*.closed")).rename(file)
    async with FileLogStore(tmp_path) as store:
        assert await read_all(store, KEY) == expected
        assert await store.seal(KEY) == info
        await store.remove([KEY])
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_more_segments_than_descriptors_can_be_open(tmp_path: Path) -> None:
    """The least used are closed and opened again."""
    keys = [SegmentKey(f"{number:04d}many", 0) for number in range(400)]
    async with FileLogStore(tmp_path, durability="process") as store:
        for sequence in range(2):
            errors = await store.append([Append(key, block(sequence, b"x")) for key in keys])
            assert not any(errors)
        assert sum(each.startswith(str(tmp_path)) for each in descriptors(os.getpid())) < 350
        for key in keys:
            assert await read_all(store, key) == [b"x", b"x"]
