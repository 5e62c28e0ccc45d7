"""Writes down to which workers jobs go, all of one look in a few statements: to each its job, or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.decisions import NewDecision, insert_decisions
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, give_back, insert_workers, take_workers
from hodei_server.work.look import Given


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """A job for which a worker was chosen.

    :param worker: the one that is to be launched for it; None where it goes to one that waits.
    :param waited: for how many seconds it has waited.
    """

    assignment: Assignment
    tenant: str
    decision: NewDecision
    worker: NewWorker | None
    waited: float


def seconds_waited(job: Mapping[Any, Any], until: int) -> float:
    """Return for how many seconds a job has waited, from its submission or the end of its back-off on.

    :param until: when it was given out, in microseconds.
    """
    micros: int = until - max(job["submitted_at"], job["not_before"])
    return micros / 1e6


def give(tx: Transaction, chosen: Sequence[Chosen]) -> list[Given]:
    """Give jobs to the workers that were chosen for them; return those that were given.

    A job that waits no longer is left out (W16), and one whose worker does: nothing is written down of either.
    """
    idle = [
        (each.assignment.worker_id, each.assignment.attempt_uid, each.tenant) for each in chosen if each.worker is None
    ]
    taken = take_workers(tx, idle)
    ready = [each for each in chosen if each.worker is not None or each.assignment.worker_id in taken]
    moved = assign(tx, [each.assignment for each in ready])
    given = [each for each in ready if each.assignment.job_id in moved]
    for each in ready:
        if each.worker is None and each.assignment.job_id not in moved:
            give_back(tx, each.assignment.worker_id, each.assignment.attempt_uid)
    insert_workers(tx, [each.worker for each in given if each.worker is not None])
    insert_decisions(tx, [each.decision for each in given])
    return [
        Given(
            moved[each.assignment.job_id],
            each.tenant,
            each.assignment.attempt_uid,
            each.assignment.provider,
            each.assignment.worker_id,
            each.worker is not None,
            each.waited,
        )
        for each in given
    ]
