"""Workers that somebody else removes from the database while they run a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Delete, Update, delete, update

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.ports import fixed_ports
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import workers
from hodei_server.domain.workers import WorkerState
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
#: Holds a lock while it runs; a second one beside it would write that down. The first stays until it is ended.
ALONE = """
exec 9>>"$0/lock"
flock -n 9 || touch "$0/twice"
echo run >>"$0/runs"
[ "$(wc -l <"$0/runs")" -gt 1 ] || exec sleep 600
"""


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        delete(workers),
        update(workers).values(state=int(WorkerState.GONE)),
        update(workers).values(state=int(WorkerState.DRAINING), removal_reason="by hand"),
    ],
    ids=["deleted", "gone", "being removed"],
)
async def test_an_attempt_whose_worker_somebody_removes_ends_as_lost(
    make_settings: MakeSettings, tmp_path: Path, change: Delete | Update, *, connected: bool
) -> None:
    """W11, W14: whatever became of its row, its process is gone before the job runs again; also after a restart."""
    settings = make_settings(**fixed_ports())
    server: Any = Server(settings, ephemeral=connected)
    async with server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["sh", "-c", ALONE, str(tmp_path)])
        async with asyncio.timeout(60):
            while not (tmp_path / "runs").exists():
                await asyncio.sleep(0.02)
        if connected:
            _execute(settings, change)
            await _ended(client, job, tmp_path)
    if not connected:
        _execute(settings, change)
        server = Server(settings, ephemeral=True)
        async with server, Client(settings=ClientSettings(server.address)) as client:
            await _ended(client, job, tmp_path)


def _execute(settings: Settings, change: Delete | Update) -> None:
    engine = open_engine(settings.resolved_database_url)
    with engine.begin() as connection:
        connection.execute(change)
    engine.dispose()


async def _ended(client: Client, job: str, folder: Path) -> None:
    async with asyncio.timeout(90):
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    causes = [attempt.outcome.cause for attempt in (await client.get(job)).attempts]
    assert causes == [wire.CAUSE_WORKER_LOST, wire.CAUSE_EXIT_CODE]
    assert not (folder / "twice").exists()
