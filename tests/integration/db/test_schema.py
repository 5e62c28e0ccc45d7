"""The schema of real databases: who may use one, and who brings it up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from hodei_faults.disk import SmallDisk, small_disks
from hodei_faults.needs import lacks
from hodei_server.db.check import differences
from hodei_server.db.database import Database, DatabaseUnavailableError
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


def test_a_schema_of_a_newer_hodei_is_refused_by_both_versions(database_url: str) -> None:
    """Whoever went back to an older version is told so; to upgrade would not help."""
    engine = open_engine(database_url)
    newest = upgrade(engine)
    with engine.connect().execution_options(hodei_writer=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refuse in (upgrade, require_newest):
        with pytest.raises(SchemaVersionError, match=rf"schema 9999, which Hodei .* {newest}\): a newer Hodei has"):
            refuse(engine)
    engine.dispose()


def test_a_file_that_is_no_database_is_told_by_its_name(tmp_path: Path) -> None:
    """Such as one that a disk has damaged."""
    file = tmp_path / "hodei.db"
    file.write_bytes(b"no header of a database" * 100)
    engine = open_engine(f"sqlite:///{file}")
    with pytest.raises(DatabaseUnavailableError, match=rf"{file} can't be used: file is not a database"):
        upgrade(engine)
    engine.dispose()


def test_a_disk_too_full_for_the_tables_is_told_in_a_line(tmp_path: Path) -> None:
    """At the first start, before anything is there that could wait for room."""
    if not small_disks():
        lacks("mounting needs root")
    with SmallDisk(tmp_path / "data", 96 << 10) as disk:
        engine = open_engine(f"sqlite:///{disk.folder}/hodei.db")
        with pytest.raises(DatabaseUnavailableError, match=rf"{disk.folder}/hodei.db can't be used: .*full"):
            upgrade(engine)
        engine.dispose()
