"""Opens a database. SQLite gets WAL, one writer and a wait for locks; PostgreSQL its driver."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

BUSY_SECONDS = 30


class DatabaseAddressError(ValueError):
    """An address is none of a database that can be opened; the message names the setting, never the address."""


class DatabaseEncodingError(Exception):
    """A database's encoding can't hold what jobs are; the message names it and says what to do."""


def open_engine(url: str, durability: Literal["power", "process"] = "power") -> Engine:
    """Return an engine; nothing is connected before its first use.

    :param url: ``sqlite:///…`` or ``postgresql://…``.
    :param durability: what a commit survives: a power cut, or the server's process.
    :raise DatabaseAddressError: it is none, or of another kind.
    :raise DatabaseEncodingError: by the engine, when it connects to a PostgreSQL database without an encoding.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseAddressError("HODEI_DATABASE_URL: it is no URL: write postgresql://USER@HOST/NAME") from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _open_sqlite(str(parsed), durability)
    if parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
        commit = "on" if durability == "power" else "off"
        return _open_postgresql(parsed, commit)
    raise DatabaseAddressError(
        f"HODEI_DATABASE_URL: {parsed.drivername} is not a database that Hodei knows: use sqlite or postgresql"
    )


def _open_postgresql(url: URL, synchronous_commit: str) -> Engine:
    options = {"options": f"-c synchronous_commit={synchronous_commit}"}
    engine = create_engine(url, pool_size=8, pool_pre_ping=True, connect_args=options)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Dialect, _record: Any, arguments: Any, options: Any) -> Any:
        connection: Any = dialect.connect(*arguments, **options)
        # Without an encoding every text is bytes to the driver, and the first question already goes wrong.
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.close()
            raise DatabaseEncodingError(
                f"the database {url.database!r} has the encoding SQL_ASCII, which is none: make one with UTF8 "
                f"(createdb --encoding=UTF8 --template=template0 NAME) and name it in HODEI_DATABASE_URL"
            )
        return connection

    return engine


def _open_sqlite(url: str, durability: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, pool_size=8)
    synchronous = "FULL" if durability == "power" else "NORMAL"

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own idea of when a transaction begins is switched off: `begin` below says it.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "cache_size=-16384",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that began by reading could only fail when it comes to write (W29).
        begin = "BEGIN IMMEDIATE" if connection.get_execution_options().get("hodei_writer", False) else "BEGIN"
        driver: Any = connection.connection.dbapi_connection
        try:
            # By SQLAlchemy's way it takes longer than some transactions.
            driver.execute(begin).close()
        except sqlite3.Error as error:
            raise DBAPIError.instance(begin, None, error, sqlite3.Error, dialect=connection.dialect) from error

    return engine
