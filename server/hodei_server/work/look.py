"""What one look at the queue comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import RowMapping

from hodei_server.db.decisions import NewDecision
from hodei_server.domain.reservations import Reservations
from hodei_server.work.decisions import Gist


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A job that was given to a worker, whether that is still to be launched, and for how many seconds it waited."""

    job: RowMapping
    tenant: str
    attempt_uid: str
    provider: str
    worker_id: str
    launch: bool
    waited: float


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one look at the queue came to.

    :param decided: why jobs wait, where that is written down.
    :param free: how many more jobs could find a place at most.
    :param crowded: providers that had no room for a job which they could run.
    :param in_the_way: idle workers that keep jobs from a full provider and that none of them can have.
    :param reservations: room that is kept for large jobs from now on.
    :param waiting: jobs whose verdicts were written down, and their gist.
    :param left_off: where it has ended in each tenant's queue; see `FairQueue`.
    :param whole: all jobs were seen, or enough of those that there is no room for.
    :param drained: providers that were draining and have no worker any more.
    """

    given: list[Given]
    decided: list[NewDecision]
    free: int
    crowded: frozenset[str]
    in_the_way: list[str]
    reservations: Reservations
    waiting: dict[str, Gist]
    left_off: Mapping[str, Mapping[Any, Any]]
    drained: Sequence[str]
    whole: bool = True
