"""A log store on the local disk and in a bucket: segments grow on the disk, sealed ones go to the bucket.

    <prefix><uid>/<first sequence>.sealed     a sealed segment, in the format it has on the disk
    <prefix><uid>/manifest.json               what there is of a log: written by whoever knows

The disk is asked first, then the bucket; so a segment may be read at every moment of its move.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeGuard, TypeVar

from hodei_logstore.contract import (
    Append,
    CorruptSegmentError,
    LogStore,
    LogStoreError,
    SegmentInfo,
    SegmentKey,
    SegmentNotFoundError,
    SequenceError,
    StoredBlock,
)
from hodei_logstore.file import FileLogStore
from hodei_logstore.objects import key_of, manifest_name, object_name
from hodei_logstore.s3.bucket import Bucket, Listed
from hodei_logstore.s3.recent import Recent
from hodei_logstore.s3.remote import RemoteSegments
from hodei_logstore.s3.uploads import Archived, Uploads

T = TypeVar("T")

#: Segments that were moved lately: an append to one is refused without asking the bucket.
MAX_MOVED = 10_000


class S3LogStore(LogStore):
    """Keeps open segments on a disk and sealed ones in a bucket, once `archive` has brought them there.

    :param disk: entered and left with this store.
    """

    def __init__(self, disk: FileLogStore, bucket: Bucket) -> None:
        self.disk = disk
        self.bucket = bucket
        self._moved: Recent[SegmentKey, bool] = Recent(MAX_MOVED)
        size = bucket.config.concurrency
        self._readers = ThreadPoolExecutor(size, thread_name_prefix="s3-read")
        self._remote = RemoteSegments(bucket, self._readers)
        self._writers = ThreadPoolExecutor(size, thread_name_prefix="s3-write")
        self.uploads = Uploads(disk, bucket, self._remote)

    async def __aenter__(self) -> Self:
        """Open the disk; the bucket need not answer."""
        await self.disk.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close both. A call that S3 does not answer is left to its timeout."""
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)
        await self.disk.__aexit__(exc_type, exc, traceback)
        self.bucket.close()

    async def append(self, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        """Append blocks, on the disk."""
        moved = {item.key for item in batch if self._moved.get(item.key)}
        if not moved:
            return await self.disk.append(batch)
        rest = iter(await self.disk.append([item for item in batch if item.key not in moved]))
        return [SequenceError(f"{item.key} is sealed") if item.key in moved else next(rest) for item in batch]

    # Reading

    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Return durable blocks; see the contract."""
        return await self._either(
            key,
            lambda: self.disk.read(key, sequence, max_bytes=max_bytes),
            lambda: self._remote.read(key, sequence, max_bytes),
        )

    async def find_time(self, key: SegmentKey, time_unix_nanos: int) -> int:
        """Return where a time may begin; see the contract."""
        return await self._either(
            key,
            lambda: self.disk.find_time(key, time_unix_nanos),
            lambda: self._remote.index(key).find_time(time_unix_nanos),
        )

    async def find_tail(self, key: SegmentKey, lines: int) -> tuple[int, int]:
        """Find where the last lines begin; see the contract."""
        return await self._either(
            key, lambda: self.disk.find_tail(key, lines), lambda: self._remote.index(key).find_tail(lines)
        )

    async def info(self, key: SegmentKey) -> SegmentInfo:
        """Tell what a segment amounts to."""
        return await self._either(key, lambda: self.disk.info(key), lambda: self._remote.index(key).info)

    async def _either(self, key: SegmentKey, on_disk: Callable[[], Awaitable[T]], in_bucket: Callable[[], T]) -> T:
        """Ask the disk, then the bucket; of what is known to be there alone the bucket at once."""
        if not self._moved.get(key):
            with contextlib.suppress(SegmentNotFoundError):
                return await on_disk()
        found = await self._read(in_bucket)
        self._moved.put(key, value=True)
        return found

    async def forget(self, key: SegmentKey) -> None:
        """Let go of what was read of the segment; see the contract."""
        await self.disk.forget(key)
        self._remote.forget(key)

    async def examine(self, key: SegmentKey) -> None:
        """Look at what no read needs; see the contract."""
        try:
            await self.disk.examine(key)
        except SegmentNotFoundError:
            await self._read(lambda: self._remote.examine(key))

    async def _read(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, function)

    # Sealing, moving, removing

    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close and compress a segment, on the disk; see the contract."""
        return await self._either(key, lambda: self.disk.seal(key), lambda: self._remote.index(key).info)

    async def archive(self, key: SegmentKey) -> Archived:
        """Bring a sealed segment to the bucket, and see that it is there. Idempotent; the disk's copy stays.

        The store has reported the same size and CRC-32 when this returns; one that reports no checksum was read back.

        :raise CorruptSegmentError: the disk's copy is damaged, or the bucket has another segment of this name.
        :raise SegmentNotFoundError: neither has it.
        :raise StoreUnavailableError: the bucket does not answer, or refuses.
        """
        return await self._write(lambda: self.uploads.archive(key))

    async def drop(self, key: SegmentKey) -> None:
        """Remove the disk's copy of a segment that was archived."""
        await self.disk.drop(key)
        self._moved.put(key, value=True)

    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments from the disk and from the bucket.

        :raise StoreUnavailableError: the bucket may still have some of them.
        """
        await self.disk.remove(keys)
        await self.remove_objects([object_name(key) for key in keys])
        for key in keys:
            self._remote.forget(key)
            self._moved.pop(key)

    async def remove_objects(self, names: Sequence[str]) -> None:
        """Remove objects by their names."""
        if names:
            await self._write(lambda: self.bucket.delete(names))

    async def write_manifest(self, attempt_uid: str, manifest: Mapping[str, Any]) -> None:
        """Store what there is of a log."""

        def run() -> None:
            data = json.dumps(manifest, indent=1, sort_keys=True).encode()
            self.bucket.put(manifest_name(attempt_uid), data, zlib.crc32(data))

        await self._write(run)

    async def read_manifest(self, attempt_uid: str) -> Mapping[str, Any]:
        """Return what `write_manifest` has stored; empty where there is none.

        :raise CorruptSegmentError: it is no manifest.
        """
        try:
            data, _ = await self._read(lambda: self.bucket.get(manifest_name(attempt_uid)))
        except SegmentNotFoundError:
            return {}
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CorruptSegmentError(f"{manifest_name(attempt_uid)} is no JSON: {error}") from error
        if not _is_manifest(found):
            raise CorruptSegmentError(f"{manifest_name(attempt_uid)} is no manifest")
        return found

    async def objects(self, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        """Return a page of what the bucket has, in order of names."""
        return await self._write(lambda: self.bucket.list(after, limit))

    async def unfinished(self) -> Sequence[Listed]:
        """Return uploads that were begun and not ended."""
        return await self._write(self.bucket.unfinished)

    async def abort(self, upload: Listed) -> None:
        """Remove an upload that was not ended."""
        await self._write(lambda: self.bucket.abort(upload))

    async def reconnect(self) -> None:
        """Read the credentials again and let go of old connections."""
        await self._write(self.bucket.reconnect)

    async def segments(self, after: SegmentKey | None = None, limit: int = 1000) -> Sequence[SegmentKey]:
        """Return what is kept on either, a page in key order."""
        there = await self.disk.segments(after, limit)
        place = object_name(after) if after is not None else ""
        found: set[SegmentKey] = set(there)
        while len(found - set(there)) < limit:
            names = [each.name for each in await self.objects(place, limit)]
            if not names:
                break
            found |= _keys(names)
            place = names[-1]
        return sorted(found)[:limit]

    async def _write(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writers, function)


def _is_manifest(found: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it has the shape of a manifest, as far as it is read again: of each segment the object, or none."""
    if not isinstance(found, dict) or not isinstance(segments := found.get("segments", []), list):
        return False
    return all(isinstance(each, dict) and isinstance(each.get("object"), str | None) for each in segments)


def _keys(names: Iterable[str]) -> set[SegmentKey]:
    return {key for name in names if (key := key_of(name)) is not None}
