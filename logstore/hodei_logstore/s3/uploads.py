"""Brings sealed segments from the disk to a bucket, and sees that they are there."""

from __future__ import annotations

import dataclasses
import os
import zlib
from pathlib import Path

from hodei_logstore import sealed
from hodei_logstore.contract import (
    CorruptSegmentError,
    SegmentInfo,
    SegmentKey,
    SegmentNotFoundError,
    StoreUnavailableError,
)
from hodei_logstore.disk import translate
from hodei_logstore.file import FileLogStore
from hodei_logstore.objects import object_name
from hodei_logstore.s3.bucket import Bucket, Stored
from hodei_logstore.s3.remote import RemoteSegments


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """A segment that is in the bucket, with the size and checksum that were compared."""

    info: SegmentInfo
    crc: int


class Uploads:
    """Uploads of one store. Every method blocks and may be called from any thread.

    :param remote: forgets what an upload replaces.
    """

    def __init__(self, disk: FileLogStore, bucket: Bucket, remote: RemoteSegments) -> None:
        self._disk = disk
        self._bucket = bucket
        self._remote = remote

    def archive(self, key: SegmentKey) -> Archived:
        """Bring a sealed segment to the bucket; see `S3LogStore.archive`."""
        name = object_name(key)
        try:
            content = self._disk.sealed_form(key)
            index, crc = _examine(content, key)
            self._store(name, content, index, crc)
        except FileNotFoundError:
            # Moved before, and the note of it was lost.
            self._remote.forget(key)
            return Archived(self._remote.index(key).info, self._bucket.read_back(name).crc or 0)
        except OSError as error:
            raise translate(error) from error
        return Archived(index.info, crc)

    def _store(self, name: str, content: Path | bytes, index: sealed.SealedIndex, crc: int) -> None:
        wanted = Stored(index.info.stored_bytes, crc)
        before = self._bucket.stat(name)
        if before is not None:
            if self._same(name, before, wanted):
                return
            self._must_not_lose(index.info)
        self._bucket.put(name, content, crc)
        self._remote.forget(index.info.key)  # of what it has replaced
        reported = self._bucket.stat(name)
        if reported is None or not self._same(name, reported, wanted):
            raise StoreUnavailableError(f"S3 has {reported} of {name}, and not {wanted} that was sent")

    def _same(self, name: str, reported: Stored, wanted: Stored) -> bool:
        if reported.size != wanted.size:
            return False
        return (reported if reported.crc is not None else self._bucket.read_back(name)) == wanted

    def _must_not_lose(self, ours: SegmentInfo) -> None:
        """See that what an upload would replace is the same segment, compressed in another way or broken."""
        self._remote.forget(ours.key)
        try:
            theirs = self._remote.index(ours.key).info
        except (CorruptSegmentError, SegmentNotFoundError):
            return
        if (theirs.next_sequence, theirs.checksum) != (ours.next_sequence, ours.checksum):
            raise CorruptSegmentError(f"the bucket has another segment {ours.key} already: nothing is replaced")


def _examine(content: Path | bytes, key: SegmentKey) -> tuple[sealed.SealedIndex, int]:
    """Return the index and the CRC-32 of a sealed segment, of which every frame was compared with its own."""
    if isinstance(content, bytes):
        index = sealed.read_index(lambda offset, size: content[offset : offset + size], len(content), key)
        return index, zlib.crc32(content)
    descriptor = os.open(content, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pread = sealed.pread_of(descriptor)
        index = sealed.read_index(pread, os.fstat(descriptor).st_size, key)
        return index, sealed.fingerprint(pread, index)
    finally:
        os.close(descriptor)
