"""A store that is damaged in a thousand places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, select, update

from hodei.v1 import log_pb2 as wire
from hodei_bench.filled import copy_jobs
from hodei_client import Client, ClientSettings
from hodei_faults.logs import read
from hodei_logstore.contract import SegmentKey
from hodei_logstore.disk import segment_path
from hodei_server.app import Server
from hodei_server.db.schema import log_segments
from hodei_server.db.segments import SegmentState
from hodei_server.settings import Settings

DAMAGED = 1000
NUMBERS = b"".join(b"%d\n" % number for number in range(1, 1001))


def damage(settings: Settings, attempt_uid: str) -> None:
    """Copy a job that has ended: of each copy's log a bit is another, and every second one waits to be sealed."""
    folder = settings.data_dir / "logs"
    [healthy] = closed(folder, attempt_uid)
    data = bytearray(healthy.read_bytes())
    data[len(data) // 2] ^= 1
    engine = create_engine(settings.resolved_database_url)
    with engine.begin() as database:
        copy_jobs(database, DAMAGED)
        copies = database.scalars(select(log_segments.c.attempt_uid)).all()
        waiting = sorted(uid for uid in copies if uid != attempt_uid)[::2]
        rows = log_segments.c.attempt_uid.in_(waiting)
        database.execute(update(log_segments).where(rows).values(state=int(SegmentState.CLOSED)))
    engine.dispose()
    for uid in copies:
        if uid != attempt_uid:
            path = segment_path(folder, SegmentKey(uid, 0), "open" if uid in waiting else healthy.suffix[1:])
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)


def closed(folder: Path, attempt_uid: str) -> list[Path]:
    """Return the files of a log to which nothing is added any more."""
    return [path for path in folder.rglob(f"{attempt_uid}-*") if path.suffix in {".closed", ".sealed"}]


async def until_closed(settings: Settings, attempt_uid: str) -> None:
    """Wait until a log is sealed, or closed where there is nothing to compress."""
    async with asyncio.timeout(90):
        while not closed(settings.data_dir / "logs", attempt_uid):
            await asyncio.sleep(0.05)


async def test_a_thousand_damaged_logs_stand_in_no_healthy_ones_way_and_each_is_told(
    make_settings: Callable[..., Settings],
) -> None:
    """L20: the server starts, serves, runs and seals beside them; nothing of them is taken for a log."""
    settings = make_settings()
    async with Server(settings) as server, Client(settings=ClientSettings(server.address)) as client:
        old = await client.submit(["seq", "1000"])
        await client.wait(old)
        (attempt,) = (await client.get(old)).attempts
        await until_closed(settings, attempt.attempt_uid)
    await asyncio.to_thread(damage, settings, attempt.attempt_uid)
    async with (
        asyncio.timeout(90),
        Server(settings) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        new = await client.submit(["seq", "1000"])
        await client.wait(new)
        assert await read(client, old) == await read(client, new) == NUMBERS
        (attempt,) = (await client.get(new)).attempts
        # Behind all that wait to be sealed and can't be.
        await until_closed(settings, attempt.attempt_uid)
        found = [log async for log in client.verify_logs()]
    verdicts = {log.job_id: [(each.verdict, bool(each.message)) for each in log.segments] for log in found}
    assert verdicts.pop(old) == verdicts.pop(new) == [(wire.LOG_VERDICT_OK, False)]
    assert len(verdicts) == DAMAGED
    assert {one for log in verdicts.values() for one in log} == {(wire.LOG_VERDICT_CORRUPT, True)}
