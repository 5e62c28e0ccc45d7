"""The account of what was archived: all that is sealed is in S3, and only there; nothing is in S3 that no log has."""

from __future__ import annotations

import contextlib
import sqlite3

from hodei_logstore.contract import SegmentKey
from hodei_logstore.objects import manifest_name, object_name
from hodei_server.db.segments import Place, SegmentState
from hodei_torture.account import clears
from hodei_torture.bucket import TorturedBucket
from hodei_torture.site import Site

#: Seconds: a bucket that has failed for long is asked again within a minute.
ARCHIVING = 180.0


class ArchiveAccount:
    """Finds faults, once everything has ended and nobody does harm."""

    def __init__(self, site: Site, bucket: TorturedBucket) -> None:
        self._site = site
        self._bucket = bucket

    async def of_all(self) -> None:
        """Wait until everything is where it belongs."""
        await clears(self._site, "sealed segments that are not in S3", self._waiting, ARCHIVING)
        await clears(self._site, "files of logs on the disk", self._files, ARCHIVING)
        await clears(self._site, "what is in S3 and what should be", self._differences, ARCHIVING)

    def _rows(self) -> list[tuple[str, int, int, int, int]]:
        path = self._site.data / "hodei.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            query = "SELECT attempt_uid, first_sequence, next_sequence, state, place FROM log_segments"
            return database.execute(query).fetchall()

    def _waiting(self) -> list[str]:
        return [
            f"{uid}/{first}"
            for uid, first, following, state, place in self._rows()
            if state == SegmentState.SEALED and place != (Place.S3 if following > first else Place.NOWHERE)
        ]

    def _files(self) -> list[str]:
        return [str(path) for path in (self._site.data / "logs").rglob("*") if path.is_file()]

    def _differences(self) -> list[str]:
        """Compare the bucket with the rows: an object for each segment that is kept, one for each log that has any."""
        rows = self._rows()
        kept = [row for row in rows if row[3] == SegmentState.SEALED and row[2] > row[1]]
        expected = {object_name(SegmentKey(uid, first)) for uid, first, *_ in kept}
        expected |= {manifest_name(uid) for uid, *_ in kept}
        # A log of which everything was cut may have had some of it there before.
        allowed = expected | {manifest_name(uid) for uid, *_ in rows}
        found = self._bucket.objects()
        missing = [f"{name} is missing" for name in sorted(expected - found)]
        unnamed = [f"{name} is of no log" for name in sorted(found - allowed)]
        return missing + unnamed + [f"{name} is being uploaded" for name in self._bucket.uploads()]
