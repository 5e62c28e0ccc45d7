"""A log store on a local disk: one file a segment.

    <root>/<first two characters of the uid>/<uid>-<first sequence>.open      appended to
    <root>/<first two characters of the uid>/<uid>-<first sequence>.sealed    compressed, for good
    <root>/<first two characters of the uid>/<uid>-<first sequence>.closed    for good, but too small to be compressed

One thread commits: it writes everything that has gathered while it was busy, then makes it durable, then answers all
who wait. So one fsync of a file serves all its writers, and those of several files run side by side.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from hodei_logstore import sealed
from hodei_logstore.committer import Committer
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
from hodei_logstore.disk import (
    key_of,
    open_sealed,
    remove_files,
    segment_path,
    size_of,
    step_back,
    sync_file,
    sync_folder,
    translate,
)
from hodei_logstore.open_segment import OpenSegment
from hodei_logstore.record import MAGIC

T = TypeVar("T")

#: Parsed indexes of sealed segments that are kept.
MAX_INDEXES = 128
READ_THREADS = 4
SMALL_BYTES = 16 << 10


class FileLogStore(LogStore):
    """Keeps segments as files.

    :param root: the folder; made if it is missing.
    :param durability: "power": what is acknowledged survives a power cut (fsync); "process": it survives the server.
    :param small_bytes: a segment whose file is smaller keeps its bytes when it is sealed: there is little to save, and
        two syncs to spend.
    :param committed: told after each commit how many seconds it took; on the committing thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Literal["power", "process"] = "power",
        small_bytes: int = SMALL_BYTES,
        committed: Callable[[float], object] = lambda _seconds: None,
    ) -> None:
        self.root = root
        self._small_bytes = small_bytes
        self._sync = durability == "power"
        self._segments: dict[SegmentKey, OpenSegment] = {}
        self._indexes: collections.OrderedDict[SegmentKey, sealed.SealedIndex] = collections.OrderedDict()
        self._waiting: list[tuple[Sequence[Append], asyncio.Future[Sequence[LogStoreError | None]]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._lock = threading.RLock()
        self._committer = Committer(self._ready, sync=self._sync, committed=committed)
        self._committing_thread = ThreadPoolExecutor(1, thread_name_prefix="log-commit")
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="log-read")
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="log-seal", initializer=step_back)

    async def __aenter__(self) -> Self:
        """Make the folder; segments are recovered when they are first touched."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is being committed and close the files."""
        while self._committing is not None:
            await asyncio.shield(self._committing)
        for pool in (self._committing_thread, self._readers, self._sealer):
            pool.shutdown()
        self._committer.close()

    # Appending

    async def append(self, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        """Append blocks; see the contract."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[LogStoreError | None]] = loop.create_future()
        self._waiting.append((batch, future))
        if self._committing is None:
            self._committing = loop.create_task(self._commit_all(), name="log commits")
        return await asyncio.shield(future)

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                items = [item for batch, _ in waiting for item in batch]
                errors = await loop.run_in_executor(self._committing_thread, self._committer.commit, items)
                start = 0
                for batch, future in waiting:
                    if not future.done():
                        future.set_result(errors[start : start + len(batch)])
                    start += len(batch)
        finally:
            self._committing = None

    def _ready(self, key: SegmentKey) -> OpenSegment:
        """Return a segment that can be appended to; make it if there is none."""
        with self._lock:
            segment = self._find_open(key)
            if segment is not None and segment.poisoned and not segment.length:
                # Nothing of it was ever acknowledged: begin it again.
                self._forget(key)
                self._path(key, "open").unlink(missing_ok=True)
                segment = None
            if segment is None:
                if self._path(key, "sealed").exists() or self._path(key, "closed").exists():
                    raise SequenceError(f"the segment {key} is sealed")
                segment = self._segments[key] = OpenSegment(key, self._path(key, "open"))
            if segment.sealing:
                raise SequenceError(f"the segment {key} is sealed")
            if segment.poisoned:
                raise LogStoreError(f"the segment {key} takes nothing more: {segment.poisoned}")
            return segment

    # Finding

    def _path(self, key: SegmentKey, form: str) -> Path:
        return segment_path(self.root, key, form)

    def _find_open(self, key: SegmentKey) -> OpenSegment | None:
        """Return an open segment, recovering it when it is touched for the first time."""
        with self._lock:
            segment = self._segments.get(key)
            path = self._path(key, "open")
            if segment is not None or not path.exists():
                return segment
            if self._path(key, "sealed").exists() and self._settle(key):
                return None
            segment = self._segments[key] = OpenSegment.recover(key, path)
            return segment

    def _settle(self, key: SegmentKey) -> bool:
        """Decide between two forms that a crash left: a sealed one that is whole wins."""
        try:
            with self._opened(key) as (pread, index):
                sealed.verify(pread, index)
        except CorruptSegmentError:
            self._path(key, "sealed").unlink()
            return False
        self._path(key, "open").unlink()
        return True

    def _opened(self, key: SegmentKey) -> contextlib.AbstractContextManager[tuple[sealed.Pread, sealed.SealedIndex]]:
        return open_sealed(self._path(key, "sealed"), key, self._index)

    def _index(self, pread: sealed.Pread, length: int, key: SegmentKey) -> sealed.SealedIndex:
        index = self._indexes.get(key)
        if index is None or index.info.stored_bytes != length:
            index = self._indexes[key] = sealed.read_index(pread, length, key)
            while len(self._indexes) > MAX_INDEXES:
                self._indexes.popitem(last=False)
        return index

    async def _run(self, function: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool or self._readers, function)
        except FileNotFoundError as error:
            raise SegmentNotFoundError(f"there is no segment {Path(error.filename or '').stem}") from None
        except OSError as error:
            raise translate(error) from error

    def _either(
        self,
        key: SegmentKey,
        when_open: Callable[[OpenSegment], T],
        when_sealed: Callable[[sealed.Pread, sealed.SealedIndex], T],
    ) -> T:
        """Ask whichever form there is; a segment that is sealed while it is asked is asked again."""
        for _ in range(2):
            segment = self._find_open(key)
            if segment is None or (segment.info.next_sequence == key.first_sequence and segment.length == 0):
                break
            try:
                return when_open(segment)
            except FileNotFoundError:
                continue
        with contextlib.suppress(FileNotFoundError):
            return when_open(OpenSegment.closed(key, self._path(key, "closed")))
        with self._opened(key) as (pread, index):
            return when_sealed(pread, index)

    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Return durable blocks; see the contract."""

        def when_sealed(pread: sealed.Pread, index: sealed.SealedIndex) -> list[StoredBlock]:
            if sequence >= index.info.next_sequence:
                return []
            return sealed.read_blocks(pread, index, sequence, max_bytes)

        return await self._run(
            lambda: self._either(key, lambda segment: segment.read(sequence, max_bytes), when_sealed)
        )

    async def find_time(self, key: SegmentKey, time_unix_nanos: int) -> int:
        """Return where a time may begin; see the contract."""
        return await self._run(
            lambda: self._either(
                key,
                lambda segment: segment.find_time(time_unix_nanos),
                lambda _, index: index.find_time(time_unix_nanos),
            )
        )

    async def find_tail(self, key: SegmentKey, lines: int) -> tuple[int, int]:
        """Find where the last lines begin; see the contract."""
        return await self._run(
            lambda: self._either(key, lambda segment: segment.find_tail(lines), lambda _, index: index.find_tail(lines))
        )

    async def info(self, key: SegmentKey) -> SegmentInfo:
        """Tell what a segment amounts to."""
        return await self._run(lambda: self._either(key, lambda segment: segment.info, lambda _, index: index.info))

    async def forget(self, key: SegmentKey) -> None:
        """Let go of the segment's index; see the contract."""
        self._indexes.pop(key, None)

    async def examine(self, key: SegmentKey) -> None:
        """Look at the file's first bytes; see the contract."""

        def when_open(segment: OpenSegment) -> None:
            with segment.path.open("rb") as file:
                if segment.length and file.read(len(MAGIC)) != MAGIC:
                    raise CorruptSegmentError(f"the segment {key} does not begin as one")

        await self._run(lambda: self._either(key, when_open, sealed.check_start))

    # Sealing and removing

    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close and compress a segment; see the contract."""
        return await self._run(lambda: self._seal(key), self._sealer)

    def _seal(self, key: SegmentKey) -> SegmentInfo:
        with self._lock:
            segment = self._find_open(key)
            if segment is not None:
                segment.sealing = True
        if segment is None:
            return self._either(key, lambda closed: closed.info, lambda _, index: index.info)
        if segment.length < self._small_bytes:
            return self._close(segment)
        target = self._path(key, "sealed")
        unfinished = target.with_suffix(".sealing")
        try:
            sealed.write_sealed(unfinished, key, segment.records())
        except BaseException:
            unfinished.unlink(missing_ok=True)  # of a disk that is full it would take the last there is
            raise
        with open_sealed(unfinished, key, sealed.read_index) as (pread, index):
            sealed.verify(pread, index)
        if (index.info.next_sequence, index.info.checksum) != (segment.info.next_sequence, segment.info.checksum):
            raise CorruptSegmentError(f"the sealed form of {key} is not what was appended")
        if self._sync:
            sync_file(unfinished)
        with self._lock:
            if self._segments.get(key) is not segment:
                unfinished.unlink(missing_ok=True)
                raise SegmentNotFoundError(f"the segment {key} was removed while it was sealed")
            unfinished.rename(target)
        if self._sync:
            sync_folder(target.parent)
        self._forget(key)
        self._path(key, "open").unlink(missing_ok=True)
        return index.info

    def _close(self, segment: OpenSegment) -> SegmentInfo:
        """Seal a small segment: its bytes are durable, so a crash that takes the new name back harms nothing."""
        segment.path.rename(self._path(segment.key, "closed"))
        self._forget(segment.key)
        return dataclasses.replace(segment.info, sealed=True)

    def _forget(self, key: SegmentKey) -> None:
        with self._lock:
            self._segments.pop(key, None)
            self._indexes.pop(key, None)
            self._committer.forget(key)

    async def stored_bytes(self, keys: Sequence[SegmentKey]) -> int:
        """Return what segments take, in all their forms; see the contract."""
        return await self._run(lambda: sum(size_of(self.root, key) for key in keys))

    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments in either form."""

        def run() -> None:
            for key in keys:
                self._forget(key)
                remove_files(self.root, key)

        await self._run(run)

    # Handing over to another store

    def sealed_form(self, key: SegmentKey) -> Path | bytes:
        """Return a sealed segment's file; the bytes of one for a segment that is small, or has no room to be sealed.

        Blocks: call it in a thread.

        :raise FileNotFoundError: there is no such segment, or it is still open.
        :raise CorruptSegmentError: it is not as it was written.
        """
        segment = self._find_open(key)
        if segment is None:
            path = self._path(key, "sealed")
            if path.exists():
                return path
            segment = OpenSegment.closed(key, self._path(key, "closed"))
        elif not segment.sealing:
            raise FileNotFoundError(f"the segment {key} is open")
        made = io.BytesIO()
        sealed.write_into(made, key, segment.records())
        return made.getvalue()

    async def drop(self, key: SegmentKey) -> None:
        """Remove the bytes of a sealed segment that another store has; what was put aside as damaged stays.

        :raise SequenceError: it is open and takes more.
        """

        def run() -> None:
            with self._lock:
                segment = self._find_open(key)
                if segment is not None and not segment.sealing:
                    raise SequenceError(f"the segment {key} is open")
                self._forget(key)
                for form in ("sealed", "closed", "open", "sealing"):
                    self._path(key, form).unlink(missing_ok=True)

        await self._run(run)

    async def segments(self, after: SegmentKey | None = None, limit: int = 1000) -> Sequence[SegmentKey]:
        """Return what is kept, a page in order; one folder is listed at a time."""
        return await self._run(lambda: self._list(after, limit))

    def _list(self, after: SegmentKey | None, limit: int) -> list[SegmentKey]:
        found: list[SegmentKey] = []
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            if after is not None and folder.name < after.attempt_uid[:2]:
                continue
            keys = {key_of(name) for name in os.listdir(folder)} - {None}  # noqa: PTH208 - paths that are thrown away at once
            found += sorted(key for key in keys if key is not None and (after is None or key > after))
            if len(found) >= limit:
                break
        return found[:limit]
