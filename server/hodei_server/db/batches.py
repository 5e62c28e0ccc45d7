"""An UPDATE of several rows, each to values of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, Update, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import RowMapping

from hodei_server.db.prepared import prepared
from hodei_server.db.transaction import Transaction


class Batch:
    """A conditional UPDATE with RETURNING, made once.

    To PostgreSQL each statement is a way there and back: it gets one for all rows. To SQLite one is a call within the
    process: there is one for each row.

    :param columns: those of `table` whose values are given for each row, its key among them.
    :param make: makes the statement of them.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], make: Callable[[Mapping[str, ColumnElement[Any]]], Update]
    ) -> None:
        self._one = prepared(make({name: bindparam(f"to_{name}") for name in columns}))
        arrays = (bindparam(f"all_{name}", type_=ARRAY(table.c[name].type)) for name in columns)
        given = func.unnest(*arrays).table_valued(*columns).render_derived(name="given")
        self._all = make({name: given.c[name] for name in columns})
        self._columns = columns

    def run(self, tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> Sequence[RowMapping]:
        """Change rows, of which none is given twice; return what the statement returns of those that it changed."""
        if not rows:
            return []
        if tx.connection.dialect.name == "postgresql":
            bound = {f"all_{name}": [row[name] for row in rows] for name in self._columns}
            return tx.execute(self._all, bound).mappings().all()
        changed: list[RowMapping] = []
        for row in rows:
            changed += tx.execute(self._one, {f"to_{name}": row[name] for name in self._columns}).mappings().all()
        return changed
