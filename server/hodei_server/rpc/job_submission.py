"""Taking a job: refused where it could never run, stored once however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from hodei.v1 import types_pb2 as wire
from hodei_server.db.database import Database
from hodei_server.db.job_queries import queued_count
from hodei_server.db.jobs import NewJob, Submitted, insert_job, submitted_before
from hodei_server.db.transaction import Transaction
from hodei_server.domain.errors import (
    ConflictError,
    HodeiServerError,
    InvalidRequestError,
    PreconditionError,
    ResourceExhaustedError,
    UnavailableError,
    Violation,
)
from hodei_server.domain.fairness import limits_of
from hodei_server.domain.ids import new_job_id
from hodei_server.domain.strategies import never, refused_names
from hodei_server.rpc.context import current_principal, current_traceparent
from hodei_server.rpc.requests import refuse
from hodei_server.secrets.jobs import JobSecrets
from hodei_server.work.scheduler import Scheduler


class Submissions:
    """Takes jobs.

    :param max_queued: jobs that may wait.
    :param accepting: whether new jobs are taken; False while the server ends.
    """

    def __init__(
        self,
        database: Database,
        secrets: JobSecrets,
        scheduler: Scheduler,
        *,
        max_queued: int,
        accepting: Callable[[], bool],
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._scheduler = scheduler
        self._max_queued = max_queued
        self._accepting = accepting
        #: So many more may wait, whatever leaves the queue: it is counted again only where these are used up.
        self._room = 0
        #: How many are counting it now, and how often what one of them found was taken over.
        self._counting = 0
        self._counts = 0

    async def submit(self, spec: wire.JobSpec, request_id: str, retry_of: str = "") -> Submitted:
        """Store a job in which nothing is wrong by itself, or find it under its request_id.

        :param retry_of: the job that it is submitted again for.
        :raise HodeiServerError: why it is not taken.
        """
        if not self._accepting():
            raise UnavailableError("the server is ending and takes no new jobs", retry_after=2.0)
        job_id = new_job_id()
        asked = spec
        # From here on nobody sees a value: neither strategies, nor providers, nor whoever reads the database.
        spec, sealed = self._secrets.take(job_id, asked, retry_of)
        trace, ageing = current_traceparent(), self._scheduler.ageing
        new = NewJob(job_id, spec, current_principal(), request_id, retry_of, trace, ageing, sealed)
        try:
            await self._secrets.check(asked)
            self._refuse_unsupported(spec)
        except HodeiServerError:
            # What was taken before is told again, whatever has gone since: a provider, a reference, a key.
            if await self._database.read(lambda tx: submitted_before(tx, new)) is None:
                raise

        submitted = await self._store(new)
        if submitted is None:
            raise ResourceExhaustedError(f"{self._max_queued} jobs wait already", retry_after=5.0)
        if submitted.conflict:
            raise ConflictError(f"the request_id was used for another job: {submitted.job_id}")
        if not submitted.existed:
            self._scheduler.wake.moved()
        return submitted

    async def _store(self, new: NewJob) -> Submitted | None:
        """Store a job, or find it; None where there is no room for it."""
        counted, counts = self._room <= 0, self._counts
        if counted:
            self._counting += 1
        else:
            self._room -= 1

        def write(tx: Transaction) -> tuple[Submitted | None, int]:
            room = self._max_queued - queued_count(tx) if counted else 1
            return (insert_job if room > 0 else submitted_before)(tx, new), room

        try:
            submitted, room = await self._database.write(write)
        finally:
            self._counting -= counted
        # Only by the first of those that counted at once: what is stored since is not in what the others saw.
        if counted and counts == self._counts:
            self._counts += 1
            # The others take a place each.
            self._room = room - 1 - self._counting
        return submitted

    def _refuse_unsupported(self, spec: wire.JobSpec) -> None:
        """Refuse what no provider could ever honour (W38).

        :raise InvalidRequestError: names a provider that is not there, or labels and annotations that are refused.
        :raise PreconditionError: names what stands against the job, per provider.
        """
        self.refuse_unknown(spec)
        capped = limits_of(self._scheduler.limits, spec.tenant or "default").never(spec.resources)
        if capped is not None:
            raise PreconditionError(f"the job can never run: {capped}")
        candidates = self._scheduler.candidates()
        reasons = {candidate.name: never(spec, candidate) for candidate in candidates}
        if reasons and all(reasons.values()):
            # A provider that could run it but for the names it gives itself: these are what is wrong with the job.
            refuse(
                Violation(f"spec.{field}", f"{reason} (provider {candidate.name})")
                for candidate in candidates
                for field, reason in refused_names(spec, candidate).items()
            )
            said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            raise PreconditionError(f"no provider can run this job ({said})")

    def refuse_unknown(self, spec: wire.JobSpec) -> None:
        """Refuse names of providers and strategies that there are none of.

        :raise InvalidRequestError: tells which there are.
        """
        known = sorted(self._scheduler.fleet.providers)
        unknown = sorted(set(spec.providers) - set(known))
        if unknown:
            text = f"names {', '.join(unknown)}; there are: {', '.join(known)}"
            raise InvalidRequestError([Violation("spec.providers", text)])
        if spec.custom_strategy and spec.custom_strategy not in self._scheduler.strategies:
            text = f"names {spec.custom_strategy!r}; there are: {', '.join(self._scheduler.strategies)}"
            raise InvalidRequestError([Violation("spec.custom_strategy", text)])
