"""One server per database: another one is refused, or takes over, and never beside it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine, text

from hodei_client import Client, ClientSettings
from hodei_faults.servers import PATIENCE, ServerProcess, settings_in
from hodei_server import database_lock
from hodei_server.app import Server
from hodei_server.database_lock import DatabaseHeldError, DatabaseLock
from hodei_server.db.engine import open_engine
from hodei_server.db.schema_version import upgrade
from hodei_server.settings import Settings

#: Ends the session that has the lock, as a failover would; PostgreSQL itself may not be stopped here.
END_HOLDER = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
postgresql = pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an upgraded database's engine."""
    opened = open_engine(database_url)
    upgrade(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def make_settings(engine: Engine, database_url: str, tmp_path: Path) -> Callable[..., Settings]:
    """Return what makes settings for a server on the test's database, with a data folder of its own."""
    assert engine.url.database

    def make(folder: str) -> Settings:
        return settings_in(tmp_path / folder, database_url=database_url)

    return make


@pytest.fixture
async def start(
    make_settings: Callable[..., Settings], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[str], ServerProcess]]:
    """Return what makes servers that are processes, by the name of their data folder."""
    made: list[ServerProcess] = []
    monkeypatch.setenv("HODEI_DATABASE_URL", database_url)

    def make(folder: str) -> ServerProcess:
        made.append(ServerProcess(make_settings(folder), tmp_path / f"{folder}.log", "HODEI_DATABASE_URL"))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


async def said(file: Path, *words: str) -> str:
    """Wait until a server has said something; return all that it has."""
    async with asyncio.timeout(PATIENCE):
        while not file.exists() or not all(word in file.read_text() for word in words):
            await asyncio.sleep(0.05)
    return file.read_text()


async def test_a_second_server_on_a_database_is_refused(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W14: also one with a data folder of its own; the first one serves on, and after it there may be another."""
    monkeypatch.setattr(database_lock, "WAIT_SECONDS", 0.0)
    async with (
        Server(make_settings("first"), ephemeral=True) as first,
        Client(settings=ClientSettings(first.address)) as client,
    ):
        with pytest.raises(
            DatabaseHeldError,
            match=rf"another server \(.*process {os.getpid()}.*\) uses the database that HODEI_DATABASE_URL names",
        ):
            await Server(make_settings("second")).__aenter__()
        await client.wait(await client.submit(["true"]))
    async with Server(make_settings("second"), ephemeral=True):
        pass


async def test_a_file_is_one_database_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's own file may be another's HODEI_DATABASE_URL."""
    monkeypatch.setattr(database_lock, "WAIT_SECONDS", 0.0)
    async with Server(settings_in(tmp_path / "first"), ephemeral=True):
        (tmp_path / "link.db").symlink_to(tmp_path / "first" / "hodei.db")
        with pytest.raises(DatabaseHeldError, match="HODEI_DATABASE_URL"):
            await Server(settings_in(tmp_path / "second", database_url=f"sqlite:///{tmp_path}/link.db")).__aenter__()


async def test_a_server_takes_over_from_one_that_was_killed(
    start: Callable[[str], ServerProcess],
) -> None:
    """The lock goes with the process."""
    first, second = start("first"), start("second")
    await first.start()
    await first.kill()
    await second.start()


@postgresql
async def test_a_server_that_overlaps_its_predecessor_waits_for_its_end(
    start: Callable[[str], ServerProcess], tmp_path: Path
) -> None:
    """It says for whom, and for how long."""
    first, second = start("first"), start("second")
    await first.start()
    starting = asyncio.create_task(second.start())
    told = await said(tmp_path / "second.log", "database.held")
    assert f"process {first.pid} " in told
    await first.stop()
    await starting


@postgresql
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_waits_for_its_predecessors_end_ends_when_it_is_asked_to(
    start: Callable[[str], ServerProcess], tmp_path: Path, number: signal.Signals
) -> None:
    """Not once it has waited, which is a failure."""
    first, second = start("first"), start("second")
    await first.start()
    starting = asyncio.create_task(second.start())
    await said(tmp_path / "second.log", "database.held")
    starting.cancel()
    await asyncio.wait({starting})
    os.kill(second.pid, number)
    assert await second.died() == 0
    assert "Traceback" not in (tmp_path / "second.log").read_text()


@postgresql
async def test_a_server_that_has_lost_its_lock_takes_it_again(
    start: Callable[[str], ServerProcess], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL may be restarted beside it."""
    first = start("first")
    await first.start()
    with engine.connect() as connection:
        assert connection.scalar(END_HOLDER) == 1
    await said(tmp_path / "first.log", "database.lock_lost", "database.lock_taken_again")
    monkeypatch.setattr(database_lock, "WAIT_SECONDS", 0.0)
    with pytest.raises(DatabaseHeldError):
        await DatabaseLock(engine).__aenter__()


@postgresql
async def test_a_server_ends_that_another_has_taken_the_database_from(
    start: Callable[[str], ServerProcess], engine: Engine, tmp_path: Path
) -> None:
    """W14: while it was stopped, and its session with PostgreSQL ended."""
    first, second = start("first"), start("second")
    await first.start()
    with first.suspended():
        with engine.connect() as connection:
            assert connection.scalar(END_HOLDER) == 1
        await second.start()
    assert await first.died() == 1
    told = (tmp_path / "first.log").read_text()
    assert f"process {second.pid} " in told
    assert "HODEI_DATABASE_URL" in told
    os.kill(second.pid, 0)


@postgresql
async def test_a_session_of_its_own_that_postgresql_has_not_missed_yet_is_ended(engine: Engine) -> None:
    """A connection may break without a word to PostgreSQL, which keeps its lock for a while."""
    async with DatabaseLock(engine) as lock:
        lost, lock._connection = lock._connection, None
        assert lost is not None
        lock._held = False
        with structlog.testing.capture_logs() as told:
            async with asyncio.timeout(PATIENCE):
                while not told:
                    await lock.check()
        assert [each["event"] for each in told] == ["database.lock_taken_again"]
        lost.close()


@postgresql
async def test_postgresql_ends_the_session_of_a_machine_that_is_gone_soon(engine: Engine) -> None:
    """Otherwise the next server would wait for hours."""
    async with DatabaseLock(engine) as lock:
        connection = lock._connection
        assert connection is not None
        if connection.scalar(text("SELECT inet_server_addr() IS NULL")):
            pytest.skip("a socket of this machine has no keepalives")
        asked = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        idle, interval, count = (int(connection.scalar(text(f"SHOW {name}")) or 0) for name in asked)
        assert 0 < idle + interval * count <= database_lock.GONE_SECONDS < database_lock.WAIT_SECONDS
