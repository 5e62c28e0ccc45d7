"""Writes gathered blocks to their segments' files and makes them durable: on the one committing thread."""

from __future__ import annotations

import collections
import errno
import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hodei_logstore.contract import Append, Block, LogStoreError, SegmentKey, SequenceError
from hodei_logstore.disk import attempt, sync_folder, translate, write_at
from hodei_logstore.open_segment import OpenSegment

#: File descriptors of open segments that are kept between appends.
MAX_DESCRIPTORS = 256
SYNC_THREADS = 4


class Committer:
    """Appends batches of many segments.

    :param ready: returns a segment that can be appended to, making it where there is none, or raises LogStoreError.
    :param sync: whether what is written must survive a power cut.
    :param committed: told how many seconds each commit took.
    """

    def __init__(
        self, ready: Callable[[SegmentKey], OpenSegment], *, sync: bool, committed: Callable[[float], object]
    ) -> None:
        self._committed = committed
        self._ready = ready
        self._sync = sync
        self._descriptors: collections.OrderedDict[SegmentKey, int] = collections.OrderedDict()
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="log-sync")

    def close(self) -> None:
        """Close the files."""
        self._syncers.shutdown()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def forget(self, key: SegmentKey) -> None:
        """Close a segment's file, if it is open."""
        descriptor = self._descriptors.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)

    def commit(self, items: Sequence[Append]) -> list[LogStoreError | None]:
        """Write, make durable, note. Returns for each item why it is not durable, or None."""
        began = time.monotonic()
        errors: list[LogStoreError | None] = [None] * len(items)
        taken: dict[SegmentKey, list[int]] = {}
        expected: dict[SegmentKey, int] = {}
        segments: dict[SegmentKey, OpenSegment] = {}
        for place, item in enumerate(items):
            if item.key not in expected:
                try:
                    segments[item.key] = self._ready(item.key)
                    expected[item.key] = segments[item.key].info.next_sequence
                except (LogStoreError, OSError) as error:
                    errors[place] = translate(error)
                    expected[item.key] = -1
                    continue
            if item.block.first_sequence != expected[item.key]:
                errors[place] = SequenceError(f"{item.key} does not go on with sequence {item.block.first_sequence}")
                expected[item.key] = -1
                continue
            expected[item.key] = item.block.next_sequence
            taken.setdefault(item.key, []).append(place)
        written: list[tuple[OpenSegment, list[Block], int, list[int]]] = []
        for key, places in taken.items():
            segment, blocks = segments[key], [items[place].block for place in places]
            try:
                written.append((segment, blocks, self._write(segment, blocks), places))
            except OSError as error:
                for place in places:
                    errors[place] = translate(error)
        self._make_durable(written, errors)
        self._close_spare()
        self._committed(time.monotonic() - began)
        return errors

    def _write(self, segment: OpenSegment, blocks: list[Block]) -> int:
        """Write blocks behind what is durable; a failed write leaves nothing behind. Returns the bytes written."""
        descriptor = self._descriptor(segment)
        pieces = segment.encode(blocks)
        size = sum(map(len, pieces))
        try:
            write_at(descriptor, pieces, segment.length)
        except OSError:
            try:
                os.ftruncate(descriptor, segment.length)
            except OSError as error:
                segment.poisoned = f"a failed write could not be undone ({error.strerror})"
            raise
        return size

    def _make_durable(
        self,
        written: list[tuple[OpenSegment, list[Block], int, list[int]]],
        errors: list[LogStoreError | None],
    ) -> None:
        folders = {segment.path.parent for segment, *_ in written if segment.length == 0}
        targets = [functools.partial(os.fdatasync, self._descriptors[segment.key]) for segment, *_ in written]
        targets += [functools.partial(sync_folder, folder) for folder in folders]
        outcomes: list[OSError | None] = [None] * len(targets)
        if self._sync:
            outcomes = self._run_all(targets)
        failed_folders = {
            folder for folder, outcome in zip(folders, outcomes[len(written) :], strict=True) if outcome is not None
        }
        for (segment, blocks, size, places), outcome in zip(written, outcomes, strict=False):
            if outcome is None and not (segment.length == 0 and segment.path.parent in failed_folders):
                segment.advance(blocks, size)
                continue
            # After a failed fsync the kernel may call the lost pages clean: only a new reading of the file tells.
            segment.poisoned = "it could not be made durable"
            for place in places:
                errors[place] = translate(outcome or OSError(errno.EIO, "the folder could not be made durable"))

    def _run_all(self, targets: Sequence[Callable[[], None]]) -> list[OSError | None]:
        if len(targets) == 1:
            return [attempt(targets[0])]
        return list(self._syncers.map(attempt, targets))

    def _descriptor(self, segment: OpenSegment) -> int:
        descriptor = self._descriptors.get(segment.key)
        if descriptor is None:
            segment.path.parent.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._descriptors[segment.key] = descriptor
        self._descriptors.move_to_end(segment.key)
        return descriptor

    def _close_spare(self) -> None:
        while len(self._descriptors) > MAX_DESCRIPTORS:
            _, descriptor = self._descriptors.popitem(last=False)
            os.close(descriptor)
