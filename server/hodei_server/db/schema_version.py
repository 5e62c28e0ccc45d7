"""Which schema a database has, and how it gets the newest."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

import hodei_migrations
from hodei_server.db.database import DatabaseUnavailableError


class SchemaVersionError(Exception):
    """A database has another schema than this server needs; the message says what to do."""


def _config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(hodei_migrations.__file__).parent))
    config.attributes["engine"] = engine
    return config


def newest_revision() -> str:
    """Return the revision that this server needs."""
    config = Config()
    config.set_main_option("script_location", str(Path(hodei_migrations.__file__).parent))
    return ScriptDirectory.from_config(config).get_current_head() or ""


def current_revision(engine: Engine) -> str | None:
    """Return the revision of a database; None for an empty one.

    :raise DatabaseUnavailableError: it can't be reached.
    """
    try:
        connected = engine.connect()
    except OperationalError as error:
        raise DatabaseUnavailableError(f"HODEI_DATABASE_URL: the database can't be reached: {error.orig}") from None
    with connected as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> str:
    """Bring a database to the newest revision and return it. Nothing is done where it has it.

    :raise DatabaseUnavailableError: it can't be reached.
    """
    current_revision(engine)
    command.upgrade(_config(engine), "head")
    return current_revision(engine) or ""


def require_newest(engine: Engine) -> None:
    """Refuse a database that does not have the newest revision.

    :raise DatabaseUnavailableError: it can't be reached.
    :raise SchemaVersionError: names the command that upgrades it.
    """
    current, newest = current_revision(engine), newest_revision()
    if current != newest:
        raise SchemaVersionError(
            f"the database has schema {current or 'none'}, this server needs {newest}: run 'hodei db upgrade'"
        )
