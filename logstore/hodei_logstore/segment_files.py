"""Segments on a disk in whatever form they are: found, recovered after a crash, sealed, removed. Every call blocks."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hodei_logstore import sealed
from hodei_logstore.contract import (
    CorruptSegmentError,
    LogStoreError,
    SegmentInfo,
    SegmentKey,
    SegmentNotFoundError,
    SequenceError,
)
from hodei_logstore.disk import key_of, open_sealed, remove_files, segment_path, sync_file, sync_folder
from hodei_logstore.open_segment import OpenSegment

T = TypeVar("T")

#: Parsed indexes of sealed segments that are kept.
MAX_INDEXES = 128


class SegmentFiles:
    """Knows the segments under a folder. Safe to use from several threads.

    :param small_bytes: a segment whose file is smaller keeps its bytes when it is sealed.
    :param sync: whether what is written must survive a power cut.
    :ivar forgotten: called with the key of a segment that is let go of.
    """

    def __init__(self, root: Path, *, small_bytes: int, sync: bool) -> None:
        self.root = root
        self.forgotten: Callable[[SegmentKey], None] = lambda _key: None
        self._small_bytes = small_bytes
        self._sync = sync
        self._segments: dict[SegmentKey, OpenSegment] = {}
        self._indexes: collections.OrderedDict[SegmentKey, sealed.SealedIndex] = collections.OrderedDict()
        self._lock = threading.RLock()

    def forget_index(self, key: SegmentKey) -> None:
        """Let go of a sealed segment's index: it is read anew."""
        self._indexes.pop(key, None)

    def _path(self, key: SegmentKey, form: str) -> Path:
        return segment_path(self.root, key, form)

    def find_open(self, key: SegmentKey) -> OpenSegment | None:
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

    def ready(self, key: SegmentKey) -> OpenSegment:
        """Return a segment that can be appended to; make it if there is none."""
        with self._lock:
            segment = self.find_open(key)
            if segment is not None and segment.poisoned and not segment.length:
                # Nothing of it was ever acknowledged: begin it again.
                self.forget(key)
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

    def either(
        self,
        key: SegmentKey,
        when_open: Callable[[OpenSegment], T],
        when_sealed: Callable[[sealed.Pread, sealed.SealedIndex], T],
    ) -> T:
        """Ask whichever form there is; a segment that is sealed while it is asked is asked again."""
        for _ in range(2):
            segment = self.find_open(key)
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

    def seal(self, key: SegmentKey) -> SegmentInfo:
        """Close and compress a segment; see `hodei_logstore.contract`."""
        with self._lock:
            segment = self.find_open(key)
            if segment is not None:
                segment.sealing = True
        if segment is None:
            return self.either(key, lambda closed: closed.info, lambda _, index: index.info)
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
        self.forget(key)
        self._path(key, "open").unlink(missing_ok=True)
        return index.info

    def _close(self, segment: OpenSegment) -> SegmentInfo:
        """Seal a small segment: its bytes are durable, so a crash that takes the new name back harms nothing."""
        segment.path.rename(self._path(segment.key, "closed"))
        self.forget(segment.key)
        return dataclasses.replace(segment.info, sealed=True)

    def sealed_form(self, key: SegmentKey) -> Path | bytes:
        """Return a sealed segment's file; the bytes of one for a segment that is small, or has no room to be sealed.

        :raise FileNotFoundError: there is no such segment, or it is still open.
        :raise CorruptSegmentError: it is not as it was written.
        """
        segment = self.find_open(key)
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

    def forget(self, key: SegmentKey) -> None:
        """Let go of what is known of a segment."""
        with self._lock:
            self._segments.pop(key, None)
            self._indexes.pop(key, None)
            self.forgotten(key)

    def remove(self, key: SegmentKey) -> None:
        """Remove a segment in every form."""
        self.forget(key)
        remove_files(self.root, key)

    def drop(self, key: SegmentKey) -> None:
        """Remove the bytes of a sealed segment; what was put aside as damaged stays.

        :raise SequenceError: it is open and takes more.
        """
        with self._lock:
            segment = self.find_open(key)
            if segment is not None and not segment.sealing:
                raise SequenceError(f"the segment {key} is open")
            self.forget(key)
            for form in ("sealed", "closed", "open", "sealing"):
                self._path(key, form).unlink(missing_ok=True)

    def keys(self, after: SegmentKey | None, limit: int) -> list[SegmentKey]:
        """Return what there is, a page in order; one folder is listed at a time."""
        found: list[SegmentKey] = []
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            if after is not None and folder.name < after.attempt_uid[:2]:
                continue
            keys = {key_of(name) for name in os.listdir(folder)} - {None}  # noqa: PTH208 - paths that are thrown away at once
            found += sorted(key for key in keys if key is not None and (after is None or key > after))
            if len(found) >= limit:
                break
        return found[:limit]
