"""What a question costs a database: counted in what the engine does, not in seconds."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from hodei_server.db.transaction import Transaction


def ask(database: Connection, question: Callable[[Transaction], object]) -> None:
    """Ask a question, and write what it would have written."""
    tx = Transaction(database)
    question(tx)
    tx.flush()


def sqlite_work(database: Connection, question: Callable[[Transaction], object]) -> int:
    """Return how many instructions of its virtual machine SQLite runs for a question."""
    driver = database.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    counter = itertools.count()
    driver.set_progress_handler(lambda: next(counter) and 0, 1)
    try:
        ask(database, question)
    finally:
        driver.set_progress_handler(None, 1)
    return next(counter)


def postgresql_work(database: Connection, question: Callable[[Transaction], object]) -> int:
    """Return how many blocks PostgreSQL looks at for a question."""
    blocks = 0

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:  # noqa: ARG001  # called by SQLAlchemy, in this order
        nonlocal blocks
        with cursor.connection.cursor() as beside:
            beside.execute("SAVEPOINT before")
            beside.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            [[[explained]]] = beside.fetchall()
            beside.execute("ROLLBACK TO SAVEPOINT before")
        explained = json.loads(explained) if isinstance(explained, str) else explained
        blocks += explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]

    event.listen(database, "before_cursor_execute", explain)
    try:
        ask(database, question)
    finally:
        event.remove(database, "before_cursor_execute", explain)
    return blocks


def measured_on(engine: Engine) -> Callable[[Callable[[Transaction], object]], int]:
    """Return what tells the work of a question on a database that has been filled; it changes nothing."""
    if engine.dialect.name == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as database:
            database.execute(text("VACUUM ANALYZE"))
    measure = sqlite_work if engine.dialect.name == "sqlite" else postgresql_work

    def work(question: Callable[[Transaction], object]) -> int:
        with engine.connect() as database:
            found = measure(database, question)
            database.rollback()
        return found

    return work


def slack_of(engine: Engine) -> int:
    """Return what may come on top of it: the depth of the indexes, a few steps or blocks at a time."""
    return 100 if engine.dialect.name == "sqlite" else 40
