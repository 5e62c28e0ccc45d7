"""What is fetched ahead from a bucket, counted in bytes: a bucket that only counts stands for the real one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from hodei_logstore.contract import SegmentKey
from hodei_logstore.s3 import S3Config, remote
from hodei_logstore.s3.remote import RemoteSegments

MIB = 1 << 20
FRAMES, FRAME_BYTES = 96, 10_000
CONCURRENCY = 8


class CountingBucket:
    """Has any bytes of any object."""

    def __init__(self) -> None:
        self.config = S3Config("bucket", concurrency=CONCURRENCY)
        self.fetched = 0
        self._lock = threading.Lock()

    def get(self, _name: str, _offset: int, size: int) -> tuple[bytes, int]:
        """Return zeros."""
        with self._lock:
            self.fetched += size
        return bytes(size), 0


@dataclasses.dataclass(frozen=True)
class Readers:
    """Some who read segments of a megabyte of log in each frame."""

    bucket: CountingBucket
    segments: RemoteSegments
    threads: ThreadPoolExecutor

    def index(self, number: int) -> Any:
        """Return the index of a segment, known without a fetch."""
        frames = tuple(
            SimpleNamespace(offset=8 + place * FRAME_BYTES, length=FRAME_BYTES, raw_length=MIB, first_sequence=place)
            for place in range(FRAMES)
        )
        key = SegmentKey(f"{number:032x}", 0)
        index: Any = SimpleNamespace(info=SimpleNamespace(key=key, next_sequence=FRAMES), frames=frames)
        self.segments._indexes.put(key, index)
        return index

    def read(self, indexes: list[Any], places: range) -> int:
        """Read frames, all readers in turn; return the bytes fetched for them, whatever they were for."""
        before = self.bucket.fetched
        for place in places:
            for index in indexes:
                self.threads.submit(self.segments._frame, index, place, MIB).result()
        return self.bucket.fetched - before

    def ahead(self, index: Any) -> bool:
        """Whether anything of a segment was fetched before its reader has come to it."""
        key = index.info.key
        return any(self.segments._coming.get((key, place)) for place in range(FRAMES))


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Return readers of a bucket of their own."""
    bucket: Any = CountingBucket()
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        yield Readers(bucket, RemoteSegments(bucket, threads), threads)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 16])
def test_what_many_read_at_once_is_fetched_once(readers: Readers, count: int) -> None:
    """L20: what is fetched ahead for one does not push out what another one comes to next."""
    indexes = [readers.index(number) for number in range(count)]
    assert readers.read(indexes, range(FRAMES)) <= 1.05 * count * FRAMES * FRAME_BYTES


def test_readers_that_have_gone_leave_room_to_others(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    """L20: what was fetched for them makes room after a while; of what was only noted there may be any number."""
    gone = [readers.index(number) for number in range(4)]
    readers.read(gone, range(FRAMES // 2))
    for number in range(10, 10 + 2 * remote.MAX_NOTES):
        readers.read([readers.index(number)], range(1))
    comes = readers.index(9)
    monkeypatch.setattr(remote, "LEFT_AFTER", 0.0)
    readers.read([comes], range(FRAMES // 2))
    assert readers.ahead(comes)
