"""A log store on a local disk: one file a segment.

    <root>/<first two characters of the uid>/<uid>-<first sequence>.open      appended to
    <root>/<first two characters of the uid>/<uid>-<first sequence>.sealed    compressed, for good
    <root>/<first two characters of the uid>/<uid>-<first sequence>.closed    for good, but too small to be compressed

One thread commits: it writes everything that has gathered while it was busy, then makes it durable, then answers all
who wait. So one fsync of a file serves all its writers, and those of several files run side by side.
"""

from __future__ import annotations

import asyncio
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
    StoredBlock,
)
from hodei_logstore.disk import size_of, step_back, translate
from hodei_logstore.open_segment import OpenSegment
from hodei_logstore.record import MAGIC
from hodei_logstore.segment_files import SegmentFiles

T = TypeVar("T")

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
        sync = durability == "power"
        self._files = SegmentFiles(root, small_bytes=small_bytes, sync=sync)
        self._waiting: list[tuple[Sequence[Append], asyncio.Future[Sequence[LogStoreError | None]]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._committer = Committer(self._files.ready, sync=sync, committed=committed)
        self._files.forgotten = self._committer.forget
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

    # Reading

    async def _run(self, function: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool or self._readers, function)
        except FileNotFoundError as error:
            raise SegmentNotFoundError(f"there is no segment {Path(error.filename or '').stem}") from None
        except OSError as error:
            raise translate(error) from error

    async def _ask(
        self,
        key: SegmentKey,
        when_open: Callable[[OpenSegment], T],
        when_sealed: Callable[[sealed.Pread, sealed.SealedIndex], T],
    ) -> T:
        return await self._run(lambda: self._files.either(key, when_open, when_sealed))

    async def read(self, key: SegmentKey, sequence: int, *, max_bytes: int = 1 << 20) -> Sequence[StoredBlock]:
        """Return durable blocks; see the contract."""

        def when_sealed(pread: sealed.Pread, index: sealed.SealedIndex) -> list[StoredBlock]:
            if sequence >= index.info.next_sequence:
                return []
            return sealed.read_blocks(pread, index, sequence, max_bytes)

        return await self._ask(key, lambda segment: segment.read(sequence, max_bytes), when_sealed)

    async def find_time(self, key: SegmentKey, time_unix_nanos: int) -> int:
        """Return where a time may begin; see the contract."""
        return await self._ask(
            key, lambda segment: segment.find_time(time_unix_nanos), lambda _, index: index.find_time(time_unix_nanos)
        )

    async def find_tail(self, key: SegmentKey, lines: int) -> tuple[int, int]:
        """Find where the last lines begin; see the contract."""
        return await self._ask(key, lambda segment: segment.find_tail(lines), lambda _, index: index.find_tail(lines))

    async def info(self, key: SegmentKey) -> SegmentInfo:
        """Tell what a segment amounts to."""
        return await self._ask(key, lambda segment: segment.info, lambda _, index: index.info)

    async def forget(self, key: SegmentKey) -> None:
        """Let go of the segment's index; see the contract."""
        self._files.forget_index(key)

    async def examine(self, key: SegmentKey) -> None:
        """Look at the file's first bytes; see the contract."""

        def when_open(segment: OpenSegment) -> None:
            with segment.path.open("rb") as file:
                if segment.length and file.read(len(MAGIC)) != MAGIC:
                    raise CorruptSegmentError(f"the segment {key} does not begin as one")

        await self._ask(key, when_open, sealed.check_start)

    # Sealing and removing

    async def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close and compress a segment; see the contract."""
        return await self._run(lambda: self._files.seal(key), self._sealer)

    async def stored_bytes(self, keys: Sequence[SegmentKey]) -> int:
        """Return what segments take, in all their forms; see the contract."""
        return await self._run(lambda: sum(size_of(self.root, key) for key in keys))

    async def remove(self, keys: Sequence[SegmentKey]) -> None:
        """Remove segments in either form."""

        def run() -> None:
            for key in keys:
                self._files.remove(key)

        await self._run(run)

    # Handing over to another store

    def sealed_form(self, key: SegmentKey) -> Path | bytes:
        """Return a sealed segment's file; the bytes of one for a segment that is small, or has no room to be sealed.

        Blocks: call it in a thread.

        :raise FileNotFoundError: there is no such segment, or it is still open.
        :raise CorruptSegmentError: it is not as it was written.
        """
        return self._files.sealed_form(key)

    async def drop(self, key: SegmentKey) -> None:
        """Remove the bytes of a sealed segment that another store has; what was put aside as damaged stays.

        :raise SequenceError: it is open and takes more.
        """
        await self._run(lambda: self._files.drop(key))

    async def segments(self, after: SegmentKey | None = None, limit: int = 1000) -> Sequence[SegmentKey]:
        """Return what is kept, a page in order; one folder is listed at a time."""
        return await self._run(lambda: self._files.keys(after, limit))
