"""Which schema a database has, and how it gets the newest."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

import hodei
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
    return _scripts().get_current_head() or ""


def current_revision(engine: Engine) -> str | None:
    """Return the revision of a database; None for an empty one.

    :raise DatabaseUnavailableError: it can't be reached, or is no database.
    """
    try:
        connected = engine.connect()
    except OperationalError as error:
        raise DatabaseUnavailableError(f"HODEI_DATABASE_URL: the database can't be reached: {error.orig}") from None
    except DBAPIError as error:
        raise _unusable(engine, error) from None
    try:
        with connected as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise _unusable(engine, error) from None


def upgrade(engine: Engine) -> str:
    """Bring a database to the newest revision and return it. Nothing is done where it has it.

    :raise DatabaseUnavailableError: it can't be reached, or not be written.
    :raise SchemaVersionError: a newer Hodei has upgraded it.
    """
    _refuse_unknown(current_revision(engine))
    try:
        command.upgrade(_config(engine), "head")
    except DBAPIError as error:
        raise _unusable(engine, error) from None
    return current_revision(engine) or ""


def require_newest(engine: Engine) -> None:
    """Refuse a database that does not have the newest revision.

    :raise DatabaseUnavailableError: it can't be reached.
    :raise SchemaVersionError: names the command that upgrades it, or says that a newer Hodei has.
    """
    current, newest = current_revision(engine), newest_revision()
    if current != newest:
        _refuse_unknown(current)
        raise SchemaVersionError(
            f"the database has schema {current or 'none'}, this server needs {newest}: run 'hodei db upgrade'"
        )


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(hodei_migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


def _refuse_unknown(current: str | None) -> None:
    if current is not None and current not in {script.revision for script in _scripts().walk_revisions()}:
        raise SchemaVersionError(
            f"the database has schema {current}, which Hodei {hodei.__version__} does not know (its newest is "
            f"{newest_revision()}): a newer Hodei has upgraded it. Run that one, or go back to a backup from before"
        )


def _unusable(engine: Engine, error: DBAPIError) -> DatabaseUnavailableError:
    where = engine.url.render_as_string(hide_password=True)
    return DatabaseUnavailableError(f"the database {where} can't be used: {error.orig}")
