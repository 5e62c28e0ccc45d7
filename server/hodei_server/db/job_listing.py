"""Which jobs a client sees in a list, the newest first, as fast after a million jobs as after ten.

A database that is asked for the newest jobs with several properties takes one way through its indexes for all of them,
and where that is the wrong one it reads the whole history. So the way is chosen here: each property has an index that
gives the numbers of its newest jobs, the property that reaches farthest back is the rarest, and only its jobs are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.engine import RowMapping

from hodei_server.db.schema import attempts, job_labels, jobs
from hodei_server.db.transaction import Transaction
from hodei_server.domain.states import JobState

#: How many numbers of each property are looked at in one go, where there are several.
LOOKED_AT = 200
#: Sorts behind every name.
_LAST = "\U0010ffff"


@dataclasses.dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted. Times are microseconds.

    :param name: the whole name, or its beginning followed by ``*``.
    """

    tenant: str
    states: Sequence[JobState] = ()
    name: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    provider: str = ""
    submitted_after: int | None = None
    submitted_before: int | None = None


#: Returns the numbers of at most so many jobs with one property, the newest first, older than a number; None for those
#: of which there are more and whose index is in no such order.
_Numbers = Callable[[int | None, int], list[int] | None]


def list_jobs(tx: Transaction, wanted: JobFilter, before: int | None, limit: int) -> Sequence[RowMapping]:
    """Return jobs, the newest first.

    :param before: only those with a smaller number: where the page before this one ended.
    """
    conditions = _conditions(tx, wanted)
    properties = [*_ordered(tx, wanted), *_unordered(tx, wanted)]
    found: list[RowMapping] = []
    count = limit if len(properties) == 1 else max(limit, LOOKED_AT)
    while True:
        query = select(*jobs.c).where(*conditions).order_by(jobs.c.number.desc()).limit(limit - len(found))
        known = [numbers for each in properties if (numbers := each(before, count)) is not None]
        if not known:
            query = query if before is None else query.where(jobs.c.number < before)
            return [*found, *tx.execute(query).mappings().all()]
        rarest = min(known, key=lambda numbers: (len(numbers) >= count, numbers[-1] if numbers else 0))
        if rarest:
            found += tx.execute(query.where(jobs.c.number.in_(rarest))).mappings().all()
        if len(found) >= limit or len(rarest) < count:
            return found
        before = rarest[-1]


def _conditions(tx: Transaction, wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return what every wanted job fulfils."""
    # A range's own index would have to be sorted: as an expression the column has none.
    conditions = [jobs.c.tenant == wanted.tenant, *_times(wanted, jobs.c.submitted_at + 0)]
    if wanted.states:
        conditions.append(jobs.c.state.in_([int(state) for state in wanted.states]))
    if wanted.name:
        conditions.append(_named(tx, wanted.name, jobs.c.name + ""))
    for key, value in wanted.labels.items():
        columns = job_labels.c
        labelled = exists().where(columns.job_number == jobs.c.number, columns.key == key, columns.value == value)
        conditions.append(labelled)
    if wanted.provider:
        there = exists().where(attempts.c.job_number == jobs.c.number, attempts.c.provider == wanted.provider)
        conditions.append(there)
    return conditions


def _times(wanted: JobFilter, column: ColumnElement[int]) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.submitted_after is not None:
        conditions.append(column >= wanted.submitted_after)
    if wanted.submitted_before is not None:
        conditions.append(column < wanted.submitted_before)
    return conditions


def _named(tx: Transaction, name: str, column: ColumnElement[str]) -> ColumnElement[bool]:
    if not name.endswith("*"):
        return jobs.c.name == name
    beginning = name[:-1]
    if tx.connection.dialect.name == "sqlite":
        # Its LIKE takes no notice of case, and no index.
        return column.between(beginning, beginning + _LAST)
    return column.startswith(beginning, autoescape=True)


def _ordered(tx: Transaction, wanted: JobFilter) -> list[_Numbers]:
    """Return the properties whose index is in the order of numbers."""
    tenant = jobs.c.tenant == wanted.tenant
    ways: list[Sequence[Select[Any]]] = []
    if wanted.states:
        of_state = [select(jobs.c.number).where(tenant, jobs.c.state == int(state)) for state in wanted.states]
        ways.append(of_state)
    if wanted.name and not wanted.name.endswith("*"):
        ways.append([select(jobs.c.number).where(tenant, jobs.c.name == wanted.name)])
    columns = job_labels.c
    for key, value in wanted.labels.items():
        ways.append([select(columns.job_number).where(columns.key == key, columns.value == value)])
    if wanted.provider:
        ways.append([select(attempts.c.job_number).distinct().where(attempts.c.provider == wanted.provider)])

    def numbers(way: Sequence[Select[Any]]) -> _Numbers:
        def newest(before: int | None, count: int) -> list[int]:
            found: list[int] = []
            for query in way:
                number = query.selected_columns[0]
                older = query if before is None else query.where(number < before)
                found += tx.execute(older.order_by(number.desc()).limit(count)).scalars()
            return sorted(found, reverse=True)[:count]

        return newest

    return [numbers(way) for way in ways]


def _unordered(tx: Transaction, wanted: JobFilter) -> list[_Numbers]:
    """Return the properties that are a range: they are of use where few jobs have them."""
    ranges: list[tuple[ColumnElement[bool], ...]] = []
    times = _times(wanted, jobs.c.submitted_at)
    if times:
        ranges.append(tuple(times))
    if wanted.name.endswith("*"):
        ranges.append((_named(tx, wanted.name, jobs.c.name),))

    def numbers(conditions: Sequence[ColumnElement[bool]]) -> _Numbers:
        query = select(jobs.c.number).where(jobs.c.tenant == wanted.tenant, *conditions).limit(LOOKED_AT)
        everything = list(tx.execute(query).scalars())
        few = sorted(everything, reverse=True) if len(everything) < LOOKED_AT else None

        def all_of_them(before: int | None, count: int) -> list[int] | None:  # noqa: ARG001 - there are fewer
            return few if few is None or before is None else [number for number in few if number < before]

        return all_of_them

    return [numbers(conditions) for conditions in ranges]
