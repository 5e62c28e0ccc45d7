"""Statements of the hot path on SQLite: compiled once, then handed to the driver as they are.

SQLAlchemy takes several times as long to hand a statement on as SQLite takes to run it, and all writes go through one
thread. A statement that is made once and marked here is compiled once for each set of parameters; afterwards only its
values are put into their places. Everything else, and PostgreSQL, goes SQLAlchemy's way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

E = TypeVar("E", bound=Executable)

_prepared: dict[Executable, dict[tuple[str, ...], _Compiled]] = {}


def prepared(statement: E) -> E:
    """Mark a statement that is made once: it is not to depend on its parameters' values but by bound parameters."""
    _prepared[statement] = {}
    return statement


class _Compiled:
    """A statement's text, and how its parameters become the driver's."""

    def __init__(self, statement: Any, keys: tuple[str, ...], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(keys))
        self.text = str(compiled)
        # Those that the statement itself names. What is missing there, the caller must name.
        self._values = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        processors: Mapping[str, Callable[[Any], Any]] = compiled._bind_processors  # noqa: SLF001 - types of columns
        self._places = [(name, processors.get(name)) for name in compiled.positiontup or ()]

    def bind(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of their places."""
        bound = []
        for name, process in self._places:
            value = parameters[name] if name in parameters else self._values[name]
            bound.append(value if process is None else process(value))
        return bound


class Rows:
    """What a prepared statement has returned; those methods of SQLAlchemy's results that its callers use."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        names = [column[0] for column in cursor.description or ()]
        self._rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        self.rowcount = cursor.rowcount
        self.inserted_primary_key = (cursor.lastrowid,)

    def scalar(self) -> Any:
        """Return the first column of the first row; None where there is none."""
        return next(iter(self._rows[0].values())) if self._rows else None

    def mappings(self) -> Rows:
        """Return itself: rows are mappings."""
        return self

    def one(self) -> dict[str, Any]:
        """Return the only row."""
        (row,) = self._rows
        return row

    def one_or_none(self) -> dict[str, Any] | None:
        """Return the only row, or None where there is none."""
        return self.one() if self._rows else None

    def all(self) -> list[dict[str, Any]]:
        """Return all rows."""
        return self._rows


class PreparedStatements:
    """Runs prepared statements on one connection to SQLite that has begun a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        driver: Any = connection.connection.dbapi_connection
        self._cursor: sqlite3.Cursor = driver.cursor()

    def run(self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Rows | None:
        """Run a statement once, or once for each of several parameters.

        :return: None when it is not a prepared one.
        :raise sqlalchemy.exc.DBAPIError: as SQLAlchemy would.
        :raise KeyError: a parameter is missing.
        """
        forms = _prepared.get(statement)
        if forms is None:
            return None
        many = not isinstance(parameters, Mapping)
        first: Mapping[str, Any] = parameters[0] if many else parameters  # type: ignore[index,assignment]  # the same
        keys = tuple(first)
        compiled = forms.get(keys)
        if compiled is None:
            compiled = forms[keys] = _Compiled(statement, keys, self._dialect)
        try:
            if many:
                self._cursor.executemany(compiled.text, [compiled.bind(row) for row in parameters])  # type: ignore[arg-type]
            else:
                self._cursor.execute(compiled.text, compiled.bind(parameters))  # type: ignore[arg-type]
            return Rows(self._cursor)
        except sqlite3.Error as error:
            raise DBAPIError.instance(compiled.text, None, error, sqlite3.Error, dialect=self._dialect) from error
