"""The schema of real databases: who may use one, and who brings it up to date."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from hodei_server.db.check import differences
from hodei_server.db.database import Database
from hodei_server.db.engine import DatabaseEncodingError, open_engine
from hodei_server.db.schema_version import SchemaVersionError, require_newest, upgrade


def test_an_old_schema_is_refused_by_the_command_that_mends_it(database_url: str) -> None:
    """Nothing but the embedded default upgrades itself."""
    engine = open_engine(database_url)
    with pytest.raises(SchemaVersionError, match="hodei db upgrade"):
        require_newest(engine)
    engine.dispose()


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_database_without_an_encoding_is_refused_by_its_name(database_url: str) -> None:
    """SQL_ASCII gives texts back as bytes; it is told before anything is asked."""
    admin = open_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
    name = f"{admin.url.database}_ascii"
    with admin.connect() as connection:
        encoded = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 {encoded}"))
    try:
        engine = open_engine(admin.url.set(database=name).render_as_string(hide_password=False))
        with pytest.raises(DatabaseEncodingError, match=rf"{name}.*SQL_ASCII.*UTF8"):
            upgrade(engine)
        engine.dispose()
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_migrations_make_the_tables(database: Database) -> None:
    """Autogenerate finds no difference."""
    assert differences(database.engine) == []
