"""A server's database, looked into from outside; and one of a bench's own on the PostgreSQL that is there for tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Engine, func, make_url, select, text

from hodei_bench.running import RunningServer
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import log_segments
from hodei_server.db.schema_version import upgrade
from hodei_server.db.segments import SegmentState

VARIABLE = "HODEI_TEST_DATABASE_URL"


def is_missing(bench: str) -> bool:
    """Say that a bench is left out where no PostgreSQL is named; in CI it must be there."""
    if os.environ.get(VARIABLE) or os.environ.get("CI"):
        return False
    sys.stderr.write(f"{bench}: left out: {VARIABLE} names no PostgreSQL\n")
    return True


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Make a database with the newest schema; yield its URL. It goes at the end."""
    url, name = os.environ[VARIABLE], f"hodei_bench_{secrets.token_hex(6)}"
    admin = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    own = make_url(url).set(database=name).render_as_string(hide_password=False)
    try:
        with opened(own) as engine:
            upgrade(engine)
        yield own
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@contextlib.contextmanager
def opened(database: str | Path) -> Iterator[Engine]:
    """Open a database by its URL, or that of a server's folder."""
    engine = open_engine(database if isinstance(database, str) else f"sqlite:///{database / 'hodei.db'}")
    try:
        yield engine
    finally:
        engine.dispose()


async def all_sealed(
    server: RunningServer, *, left: Sequence[SegmentState] = (SegmentState.OPEN, SegmentState.CLOSED)
) -> None:
    """Wait until no segment is open, or closed and not yet compressed: until the logs cost the server nothing more.

    :param left: the states that no segment may be in.
    """
    url = server.environment.get("HODEI_DATABASE_URL", "")
    waiting = select(func.count()).where(log_segments.c.state.in_(list(map(int, left))))
    async with asyncio.timeout(1800):
        with opened(url or server.data_dir) as engine, engine.connect() as database:
            while database.execute(waiting).scalar():
                database.rollback()
                await asyncio.sleep(0.1)
