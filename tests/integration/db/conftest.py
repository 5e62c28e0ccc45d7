"""A fresh database per test, on every engine there is."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.schema_version import upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = os.environ.get("HODEI_TEST_DATABASE_URL")
    if not server:
        message = "HODEI_TEST_DATABASE_URL names no PostgreSQL"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    name = f"hodei_test_{secrets.token_hex(6)}"
    admin = open_engine(server).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Return an upgraded database."""
    engine = open_engine(database_url)
    upgrade(engine)
    async with Database(engine) as opened:
        yield opened
