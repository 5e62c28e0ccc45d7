"""Objects in S3 that no log has, and uploads that nobody has ended: left by crashes, found and removed after a grace.

Such are rare: a server was killed, or S3 stopped answering, between an upload and its note, and by the time that it
might have been gone on with, the log had expired. They are looked for in small batches, below this installation's own
names only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy import select

from hodei_logstore.contract import CorruptSegmentError, SegmentKey, StoreUnavailableError
from hodei_logstore.objects import key_of, log_of_manifest
from hodei_logstore.s3 import Listed, S3LogStore
from hodei_server.db.archive import segments_of_logs
from hodei_server.db.database import Database
from hodei_server.db.schema import attempts, installation
from hodei_server.db.segments import WITHOUT_BYTES, Place, Segment
from hodei_server.db.transaction import Transaction

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Objects of a listing that are looked at together.
PAGE = 200
#: Seconds of work in a row, then others have their turn, for so many.
TIME_BUDGET = 1.0
REST = 4.0
#: Seconds from one look at everything to the next, at most.
BETWEEN = 3600.0


@dataclasses.dataclass(slots=True)
class Swept:
    """What a turn has removed.

    :param more: the listing goes on.
    """

    objects: int = 0
    bytes: int = 0
    uploads: int = 0
    more: bool = False


class _Known:
    """What the database says of some logs, read after they were listed: what is made in between is known."""

    def __init__(self, tx: Transaction, attempt_uids: Sequence[str]) -> None:
        columns = attempts.c
        rows = tx.execute(select(columns.attempt_uid, columns.log_expired).where(columns.attempt_uid.in_(attempt_uids)))
        self.expired = {row.attempt_uid: row.log_expired for row in rows}
        self.segments = {each.key: each for each in segments_of_logs(tx, attempt_uids)}

    def is_gone(self, attempt_uid: str) -> bool:
        """Whether a log has expired and retention has removed all that it knew of."""
        theirs = (each for each in self.segments.values() if each.attempt_uid == attempt_uid)
        return self.expired[attempt_uid] and all(each.place is Place.NOWHERE for each in theirs)


def _is_left_over(segment: Segment) -> bool:
    """Whether an object of a segment is one that nothing knows of: what retention knows of, it removes itself."""
    return segment.state in WITHOUT_BYTES and segment.place is Place.NOWHERE


def _may_be_going_up(segment: Segment | None) -> bool:
    """Whether an upload of a segment may be somebody's: whoever puts it there again ends what was begun before."""
    return segment is not None and segment.state not in WITHOUT_BYTES and bool(segment.place & Place.DISK)


class Sweep:
    """Looks through a bucket, a turn at a time, and goes on where it was.

    The database decides on segments that it knows. What it does not know stays where a manifest names it: the database
    may be an older copy.

    :param installation_id: what the store's names begin with; nothing is removed while the database has another.
    :param grace: seconds, by S3's own clock, that anything is left for.
    """

    def __init__(self, store: S3LogStore, database: Database, installation_id: str, *, grace: float) -> None:
        self._store = store
        self._database = database
        self._installation_id = installation_id
        self._grace = grace
        self._after = ""

    async def run(self, budget: float = TIME_BUDGET) -> Swept:
        """Look on for about `budget` seconds.

        :raise StoreUnavailableError: S3 does not answer.
        """
        swept, deadline = Swept(), time.monotonic() + budget
        if not await self._is_ours():
            return swept
        while True:
            page = await self._store.objects(self._after, PAGE)
            if not page:
                break
            await self._look_at(page, swept)
            self._after = page[-1].name
            if time.monotonic() >= deadline:
                swept.more = True
                break
        if not swept.more:
            self._after = ""
            await self._look_at_uploads(swept)
        if swept.objects or swept.uploads:
            _log.warning("sweep.removed", objects=swept.objects, bytes=swept.bytes, uploads=swept.uploads)
        return swept

    async def _is_ours(self) -> bool:
        found = await self._database.read(lambda tx: tx.execute(select(installation.c.installation_id)).scalar())
        if found == self._installation_id:
            return True
        _log.error("sweep.other_installation", database=found, installation_id=self._installation_id)
        return False

    async def _know(self, attempt_uids: set[str]) -> _Known:
        return await self._database.read(lambda tx: _Known(tx, sorted(attempt_uids)))

    async def _look_at(self, page: Sequence[Listed], swept: Swept) -> None:
        old = [each for each in page if each.age >= self._grace]
        keys = {each.name: key for each in old if (key := key_of(each.name)) is not None}
        logs = {each.name: uid for each in old if (uid := log_of_manifest(each.name))}
        known = await self._know({key.attempt_uid for key in keys.values()} | set(logs.values()))
        left, unknown = set[str](), set[str]()
        for name, key in keys.items():
            segment = known.segments.get(key)
            if segment is None:
                unknown.add(name)
            elif _is_left_over(segment):
                left.add(name)
        for name, uid in logs.items():
            if uid not in known.expired:
                unknown.add(name)
            elif known.is_gone(uid):
                left.add(name)
        uids = {name: keys[name].attempt_uid if name in keys else logs[name] for name in unknown}
        left |= unknown - await self._named(uids)
        gone = [each for each in old if each.name in left]
        await self._store.remove_objects([each.name for each in gone])
        swept.objects += len(gone)
        swept.bytes += sum(each.size for each in gone)

    async def _named(self, logs: dict[str, str]) -> set[str]:
        """Return those of some objects that their log's manifest names; a manifest that names any is named itself.

        A manifest that can't be read names all.

        :param logs: the attempt's uid of each.
        """
        uids = sorted(set(logs.values()))
        found = dict(zip(uids, await asyncio.gather(*map(self._objects_of, uids)), strict=True))
        named = set[str]()
        for name, uid in logs.items():
            objects = found[uid]
            if objects is None or name in objects or (objects and log_of_manifest(name)):
                named.add(name)
        return named

    async def _objects_of(self, attempt_uid: str) -> Collection[str] | None:
        """Return what a log's manifest names; None where it can't be read, and might name anything."""
        try:
            manifest = await self._store.read_manifest(attempt_uid)
        except CorruptSegmentError as error:
            _log.warning("sweep.manifest_unreadable", attempt_uid=attempt_uid, error=str(error))
            return None
        return {each["object"] for each in manifest.get("segments", ()) if each.get("object") is not None}

    async def _look_at_uploads(self, swept: Swept) -> None:
        uploads = [each for each in await self._store.unfinished() if each.age >= self._grace]
        keys: dict[str, SegmentKey] = {each.name: key for each in uploads if (key := key_of(each.name)) is not None}
        for start in range(0, len(uploads), PAGE):
            batch = [each for each in uploads[start : start + PAGE] if each.name in keys]
            known = await self._know({keys[each.name].attempt_uid for each in batch})
            for each in batch:
                if not _may_be_going_up(known.segments.get(keys[each.name])):
                    await self._store.abort(each)
                    swept.uploads += 1


async def sweep_loop(sweep: Sweep, grace: float) -> None:
    """Look through the bucket from time to time, a second at a time; where S3 fails, go on later."""
    between = max(min(grace / 4, BETWEEN), 0.1)
    pause = between
    while True:
        await asyncio.sleep(pause)
        pause = between
        try:
            swept = await sweep.run()
        except StoreUnavailableError as error:
            _log.warning("sweep.unavailable", error=str(error))
        else:
            if swept.more:
                pause = min(between, REST)
