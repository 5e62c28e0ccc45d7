"""A fresh database per test, on every engine there is."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from hodei_faults.needs import lacks
from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.db.schema_version import upgrade

# What it asserts is told as in a test's own file.
pytest.register_assert_rewrite("hodei_faults.job_model", "hodei_faults.job_rows")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Return which engine the test's databases are on."""
    name: str = request.param
    return name


@contextlib.contextmanager
def _empty_database(engine_name: str, file: Path) -> Iterator[str]:
    if engine_name == "sqlite":
        yield f"sqlite:///{file}"
        return
    server = os.environ.get("HODEI_TEST_DATABASE_URL")
    if not server:
        lacks("HODEI_TEST_DATABASE_URL names no PostgreSQL")
    name = f"hodei_test_{secrets.token_hex(6)}"
    admin = open_engine(server).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database_url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty database."""
    with _empty_database(engine_name, tmp_path / "test.db") as url:
        yield url


@pytest.fixture
def database_url_beside(engine_name: str, tmp_path: Path) -> Iterator[str]:
    """Return the address of another one on the same engine."""
    with _empty_database(engine_name, tmp_path / "beside.db") as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Return an upgraded database."""
    engine = open_engine(database_url)
    upgrade(engine)
    async with Database(engine) as opened:
        yield opened


@pytest.fixture
def engines(database_url: str, database_url_beside: str) -> Iterator[tuple[Engine, Engine]]:
    """Return two empty databases of one kind."""
    pair = open_engine(database_url), open_engine(database_url_beside)
    yield pair
    for engine in pair:
        engine.dispose()
