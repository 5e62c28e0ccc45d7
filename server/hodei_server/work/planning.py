"""Where a job would go as things stand now: what dispatch would decide, and nothing is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from sqlalchemy.engine import RowMapping

from hodei.v1 import job_pb2 as job_wire
from hodei.v1 import types_pb2 as wire
from hodei_server.db.database import Database
from hodei_server.db.job_queries import providers_that_failed
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import idle_workers, worker_groups
from hodei_server.domain.fairness import Usage, limits_of
from hodei_server.domain.states import JobState
from hodei_server.work.decisions import encoded_decision, moved
from hodei_server.work.offers import usage_of
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.sessions import Sessions


class Planner:
    """Says what would be decided."""

    def __init__(self, database: Database, scheduler: Scheduler, sessions: Sessions) -> None:
        self._database = database
        self._scheduler = scheduler
        self._sessions = sessions

    async def plan(self, spec: wire.JobSpec, job: RowMapping | None = None) -> job_wire.Decision:
        """Return what would be decided of a job, if it were the next one.

        :param job: its row, where it is one that was submitted: its caps, its room and its failures are its own.
        """

        def look(tx: Transaction) -> tuple[Sequence[RowMapping], Sequence[RowMapping], Mapping[str, int]]:
            return worker_groups(tx), idle_workers(tx), providers_that_failed(tx, job) if job is not None else {}

        groups, idle, failed = await self._database.read(look)
        connected = self._sessions.connected()
        placing = self._scheduler.placing(
            groups, [row for row in idle if row["worker_id"] in connected], self._scheduler.reservations()
        )
        tenant, avoid = spec.tenant or "default", frozenset(failed)
        choice = placing.choose(spec, tenant, job_id=job["job_id"] if job is not None else "", avoid=avoid)
        reason = self._capped(spec.resources, tenant, groups, job)
        if reason:
            choice = dataclasses.replace(choice, place=None)
        elif choice.place is not None:
            reason = moved(failed, choice.place.provider)
        return job_wire.Decision.FromString(
            encoded_decision("", spec, choice, self._scheduler.prices, reason=reason, avoid=avoid)
        )

    def _capped(self, asked: wire.Resources, tenant: str, groups: Sequence[RowMapping], job: RowMapping | None) -> str:
        """Return which cap of its tenant keeps a job waiting; empty where none does."""
        limits = limits_of(self._scheduler.limits, tenant)
        never = limits.never(asked)
        if never is not None:
            return f"the job can never run: {never}"
        if job is not None and job["state"] != int(JobState.QUEUED):
            # What it has counts already.
            return ""
        return limits.exceeded(usage_of(groups).get(tenant, Usage()), asked) or ""
