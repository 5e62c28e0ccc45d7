"""What a write or a read is given: a connection inside a transaction, and the database's time in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Executable, Insert, literal_column, or_, text
from sqlalchemy.engine import CursorResult

from hodei.clock import elapsed_ns, steady_time_ns
from hodei_server.db.prepared import PreparedStatements

#: Microseconds that asking a database for its time may take.
MOMENT_MICROS = 1_000_000


class Transaction:
    """A connection inside a transaction, and the database's time in it.

    :param prepared: runs statements of the hot path, where it can.
    :param offset: from this machine's elapsed time to the database's clock, in microseconds; it is asked when None.
    """

    def __init__(
        self, connection: Connection, prepared: PreparedStatements | None = None, *, offset: int | None = None
    ) -> None:
        self.connection = connection
        self._prepared = prepared
        self._offset = offset
        self._now: int | None = None
        self._later: dict[Insert, list[dict[str, Any]]] = {}
        self._committed: list[Callable[[], None]] = []

    @property
    def now(self) -> int:
        """The database's clock, in microseconds since 1970-01-01 UTC; the same throughout a transaction.

        It is what that said when the `Database` was opened, carried on by this machine's elapsed time: no row is judged
        by a clock that is moved.
        """
        if self._now is None:
            if self._offset is None:
                self._now = database_time(self.connection)
            else:
                self._now = elapsed_ns() // 1000 + self._offset
        return self._now

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement."""
        if self._prepared is not None:
            rows: Any = self._prepared.run(statement, parameters or {})
            if rows is not None:
                return rows  # type: ignore[no-any-return]  # as much of a CursorResult as callers of these use
        return self.connection.execute(statement, parameters)

    def insert_later(self, statement: Insert, row: dict[str, Any]) -> None:
        """Insert a row before the transaction is committed, together with all others of the same statement.

        For rows that nothing in the same write reads. Statements are run in the order in which they first came.

        :param statement: one object for all of them, made once.
        """
        self._later.setdefault(statement, []).append(row)

    def once_committed(self, tell: Callable[[], None]) -> None:
        """Call something that doesn't raise once the transaction is committed, on the writer's thread."""
        self._committed.append(tell)

    def committed(self) -> None:
        """Tell those who wanted to know; called once, after the commit."""
        for tell in self._committed:
            tell()

    def flush(self) -> None:
        """Insert what was put off; called once, before the commit."""
        for statement, rows in self._later.items():
            self.execute(statement, rows)
        self._later.clear()


def one_of(column: Column[Any], states: Iterable[int]) -> ColumnElement[bool]:
    """Return the condition that a column has one of some constant values.

    `in_` would be taken apart and put together again with every execution of a statement.
    """
    return or_(*(column == literal_column(str(int(state))) for state in states))


def database_time(connection: Connection) -> int:
    """Return the database's clock in microseconds. SQLite has none: it gets this process's, which does not jump."""
    if connection.dialect.name == "sqlite":
        return steady_time_ns() // 1000
    return int(connection.scalar(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")) or 0)


def clock_offset(connection: Connection) -> int:
    """Return how far the database's clock is from this machine's elapsed time, in microseconds."""
    while True:
        before = elapsed_ns() // 1000
        now = database_time(connection)
        # Whoever was stopped in between has not learned much.
        if elapsed_ns() // 1000 - before <= MOMENT_MICROS:
            return now - before
