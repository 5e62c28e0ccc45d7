"""What crashes leave in a bucket is found and removed; nothing else is."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import insert, select, update

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_logstore.contract import SegmentKey
from hodei_logstore.objects import manifest_name, object_name
from hodei_logstore.s3 import Bucket, S3LogStore
from hodei_server.app import Server
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.schema import attempts, installation, jobs, log_segments
from hodei_server.db.schema_version import upgrade
from hodei_server.db.segments import Place, SegmentState
from hodei_server.domain.ids import new_attempt_uid, new_job_id
from hodei_server.loops.sweep import Sweep, Swept
from hodei_server.settings import Settings

#: So short that all there is has outlived it, whatever S3's clock tells to the second.
NO_GRACE = -10.0
#: Seconds that no turn of these takes.
AMPLE = 60.0


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Return the database of an installation."""
    engine = open_engine(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(engine)
    async with Database(engine) as opened:
        row = {"installation_id": "here", "created_at": 0, "generation": ""}
        await opened.write(lambda tx: tx.execute(insert(installation), row))
        yield opened


async def known_segment(database: Database, state: SegmentState, place: Place) -> SegmentKey:
    """Write down a segment; return its name. Its log has expired where the segment has."""
    uid, job_id = new_attempt_uid(), new_job_id()
    await database.write(lambda tx: insert_job(tx, NewJob(job_id, wire.JobSpec(argv=["true"]), "anonymous")))
    given = Assignment(job_id, uid, "process", "w1", "server", 60_000_000)
    assert await database.write(lambda tx: assign(tx, [given]))
    row = update(log_segments).where(log_segments.c.attempt_uid == uid)
    await database.write(lambda tx: tx.execute(row.values(state=int(state), place=int(place))))
    if state is SegmentState.EXPIRED:
        gone = update(attempts).where(attempts.c.attempt_uid == uid).values(log_expired=True)
        await database.write(lambda tx: tx.execute(gone))
    return SegmentKey(uid, 0)


def put(store: S3LogStore, name: str) -> str:
    """Put something into the bucket; return its name."""
    store.bucket.put(name, b"x", 0x8CDC1683)
    return name


async def names(store: S3LogStore) -> set[str]:
    """Return what the bucket has below the store's prefix."""
    return {each.name for each in await store.objects()}


async def test_what_no_log_has_goes_and_the_rest_stays(store: S3LogStore, database: Database, s3: Any) -> None:
    """L20: by the database, where it knows of it; else by the manifest, as the database may be an older copy."""
    state = SegmentState
    kept, left = set[str](), set[str]()
    for key, stays in [
        (await known_segment(database, state.SEALED, Place.S3), True),
        (await known_segment(database, state.SEALED, Place.DISK), True),  # its upload is on its way, or will be
        (await known_segment(database, state.SEALED, Place.DISK | Place.S3), True),
        (await known_segment(database, state.OPEN, Place.DISK), True),
        (await known_segment(database, state.EXPIRED, Place.S3), True),  # retention's
        (await known_segment(database, state.CUT, Place.DISK | Place.S3), True),
        (await known_segment(database, state.EXPIRED, Place.NOWHERE), False),
        (await known_segment(database, state.CUT, Place.NOWHERE), False),
    ]:
        (kept if stays else left).add(put(store, object_name(key)))
    gone = await known_segment(database, state.EXPIRED, Place.NOWHERE)
    left.add(put(store, object_name(gone)))
    named = {"segments": [{"object": object_name(gone)}]}
    await store.write_manifest(gone.attempt_uid, named)  # the database knows better
    left.add(manifest_name(gone.attempt_uid))
    lost = SegmentKey("0" * 26, 0)
    left.add(put(store, object_name(lost)))
    await store.write_manifest("1" * 26, {"segments": [{"object": None}]})
    left.add(manifest_name("1" * 26))
    restored, beside = SegmentKey("2" * 26, 0), SegmentKey("2" * 26, 7)
    await store.write_manifest(restored.attempt_uid, {"segments": [{"object": object_name(restored)}]})
    kept |= {put(store, object_name(restored)), manifest_name(restored.attempt_uid)}
    left.add(put(store, object_name(beside)))
    kept |= {put(store, "somebody/else.txt"), put(store, f"{'3' * 26}/notes.sealed")}
    config = store.bucket.config
    others = [f"logs/hereafter/{object_name(lost)}", f"logs/{object_name(lost)}", object_name(lost)]
    for name in others:
        s3.put_object(Bucket=config.bucket, Key=name, Body=b"x")

    assert await names(store) == kept | left
    assert await Sweep(store, database, "here", grace=3600.0).run(AMPLE) == Swept()
    assert await names(store) == kept | left
    swept = await Sweep(store, database, "here", grace=NO_GRACE).run(AMPLE)
    assert await names(store) == kept
    assert (swept.objects, swept.more) == (len(left), False)
    there = {each["Key"] for each in s3.list_objects_v2(Bucket=config.bucket)["Contents"]}
    assert there >= set(others)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[]", b"7", b"[" * 100_000, b'{"segments": 7}', b'{"segments": [7]}',
     b'{"segments": [{"object": []}]}'],
    ids=["empty", "cut", "bytes", "list", "number", "deep", "segments", "segment", "object"],
)  # fmt: skip
async def test_what_stands_beside_a_manifest_that_can_not_be_read_stays_and_the_rest_goes_on(
    store: S3LogStore, database: Database, content: bytes
) -> None:
    """L20: it might have named them; no look at the bucket ends by it."""
    damaged = "1" * 26
    store.bucket.put(manifest_name(damaged), content, zlib.crc32(content))
    kept = {put(store, object_name(SegmentKey(damaged, 0))), manifest_name(damaged)}
    put(store, object_name(SegmentKey("2" * 26, 0)))
    with structlog.testing.capture_logs() as logged:
        swept = await Sweep(store, database, "here", grace=NO_GRACE).run(AMPLE)
    assert await names(store) == kept
    assert (swept.objects, swept.more) == (1, False)
    assert [each["attempt_uid"] for each in logged if each["event"] == "sweep.manifest_unreadable"] == [damaged]


async def test_a_turn_goes_on_where_the_last_one_ended(
    store: S3LogStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L22: a page and no more where the budget is spent; then the next one, and from the beginning again."""
    monkeypatch.setattr("hodei_server.loops.sweep.PAGE", 2)
    kept = put(store, object_name(await known_segment(database, SegmentState.SEALED, Place.S3)))
    for number in range(5):
        put(store, object_name(SegmentKey("0" * 26, number)))
    sweep = Sweep(store, database, "here", grace=NO_GRACE)
    turns = [await sweep.run(budget=0.0) for _ in range(4)]
    assert [each.objects for each in turns] == [2, 2, 1, 0]
    assert [each.more for each in turns] == [True, True, True, False]
    assert await names(store) == {kept}
    put(store, object_name(SegmentKey("0" * 26, 0)))
    assert (await sweep.run(AMPLE)).objects == 1


async def test_nothing_goes_while_the_database_is_another_installation_s(store: S3LogStore, database: Database) -> None:
    """L20: whoever put another database under a server finds everything where it was."""
    name = put(store, object_name(SegmentKey("0" * 26, 0)))
    other = update(installation).values(installation_id="another")
    await database.write(lambda tx: tx.execute(other))
    sweep = Sweep(store, database, "here", grace=NO_GRACE)
    assert await sweep.run(AMPLE) == Swept()
    assert await names(store) == {name}
    back = update(installation).values(installation_id="here")
    await database.write(lambda tx: tx.execute(back))
    assert (await sweep.run(AMPLE)).objects == 1


async def test_uploads_that_nobody_ended_go_but_for_those_that_may_be_going_up(
    store: S3LogStore, database: Database, s3: Any
) -> None:
    """L20: a part that was uploaded is paid for until somebody gives it up."""
    config = store.bucket.config
    live = await known_segment(database, SegmentState.SEALED, Place.DISK)
    closed = await known_segment(database, SegmentState.CLOSED, Place.DISK)
    moved = await known_segment(database, SegmentState.SEALED, Place.S3)
    expired = await known_segment(database, SegmentState.EXPIRED, Place.DISK)
    unknown = SegmentKey("0" * 26, 0)
    for key in (live, closed, moved, expired, unknown):
        place = {"Bucket": config.bucket, "Key": config.prefix + object_name(key)}
        begun = s3.create_multipart_upload(**place)["UploadId"]
        s3.upload_part(**place, UploadId=begun, PartNumber=1, Body=b"x" * (5 << 20))
    for foreign in ("elsewhere/" + object_name(unknown), config.prefix + "notes.txt"):
        s3.create_multipart_upload(Bucket=config.bucket, Key=foreign)
    assert (await Sweep(store, database, "here", grace=3600.0).run(AMPLE)).uploads == 0
    assert (await Sweep(store, database, "here", grace=NO_GRACE).run(AMPLE)).uploads == 3
    left = {each.name for each in await store.unfinished()}
    assert left == {object_name(live), object_name(closed), "notes.txt"}
    s3.abort_multipart_upload(
        Bucket=config.bucket, Key=config.prefix + "notes.txt", UploadId=_id(s3, config, "notes.txt")
    )


def _id(s3: Any, config: Any, name: str) -> str:
    found = s3.list_multipart_uploads(Bucket=config.bucket, Prefix=config.prefix + name)["Uploads"]
    upload_id: str = found[0]["UploadId"]
    return upload_id


@pytest.mark.parametrize("step", ["upload", "manifest"])
async def test_what_a_killed_server_left_of_a_log_that_has_expired_is_removed_by_the_next(
    make_settings: Callable[..., Settings], s3: Any, bucket_name: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """L20, L22: retention had removed all it knew of when the upload came to its end, and then the server died."""
    from hodei_server.loops import archive  # noqa: PLC0415 - of the extra "s3"

    settings = make_settings(s3_orphan_grace="1h")
    going_up, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    put_whole = Bucket.put

    def held(bucket: Bucket, name: str, content: Any, crc: int) -> None:
        if not goes_on.is_set():
            content = content if isinstance(content, bytes) else content.read_bytes()  # it was opened before it went
            loop.call_soon_threadsafe(going_up.set)
            goes_on.wait()
        put_whole(bucket, name, content, crc)

    def die(*_: object) -> Any:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put", held)
        patch.setattr(archive, "mark_archived", die)
        if step == "manifest":
            # Read before the log had expired, written after all of it was removed.
            patch.setattr(archive, "manifest", lambda _, uid, stored: _names(uid, stored))
        async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
            job = await client.submit(["seq", "40000"])
            await client.wait(job)
            async with asyncio.timeout(60):
                await going_up.wait()
            engine = open_engine(settings.resolved_database_url)
            with engine.begin() as connection:
                connection.execute(update(jobs).values(logs_expire_at=0))
            await _until(lambda: _places(engine) == {int(Place.NOWHERE)})
            goes_on.set()
            async with asyncio.timeout(60):
                await server.failed.wait()
    left = _listed(s3, bucket_name)
    assert any(name.endswith(".sealed") for name in left)
    assert any(name.endswith("manifest.json") for name in left) == (step == "manifest")
    async with Server(make_settings(s3_orphan_grace="1s"), ephemeral=True):
        await _until(lambda: not _listed(s3, bucket_name))
    engine.dispose()


def _names(uid: str, stored: Any) -> dict[str, Any]:
    return {"attempt_uid": uid, "segments": [{"object": object_name(each.key)} for each in stored]}


def _listed(s3: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def _places(engine: Any) -> set[int]:
    with engine.begin() as connection:
        return set(connection.execute(select(log_segments.c.place)).scalars())


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)
