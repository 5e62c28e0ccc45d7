"""`JobService`."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from grpc import aio
from sqlalchemy.engine import RowMapping

from hodei.v1 import job_pb2 as wire
from hodei.v1 import job_pb2_grpc
from hodei.v1 import types_pb2 as types_wire
from hodei_server.db.database import Database
from hodei_server.db.decisions import list_decisions
from hodei_server.db.job_listing import JobFilter, list_jobs
from hodei_server.db.job_queries import attempts_of, events_after, queue_position
from hodei_server.db.jobs import CancelWish, job_row, request_cancel
from hodei_server.db.transaction import Transaction
from hodei_server.domain.errors import InvalidRequestError, NotFoundError, PreconditionError, Violation
from hodei_server.domain.secrets import give_again, without_values
from hodei_server.domain.spec import check_duration, check_labels, check_spec, check_tenant, check_text
from hodei_server.domain.states import JobState
from hodei_server.logs.changes import wait_for
from hodei_server.rpc.job_submission import Submissions
from hodei_server.rpc.messages import attempt_message, decision_of, event_message, job_message
from hodei_server.rpc.open_streams import Bound, OpenStreams, peer_of
from hodei_server.rpc.requests import PageTokens, micros, page_size, refuse, require
from hodei_server.work.attempts import Attempts
from hodei_server.work.planning import Planner
from hodei_server.work.scheduler import Scheduler

#: Seconds after which a watch looks again by itself.
LOOK_AGAIN_SECONDS = 15.0
#: Decisions that an explanation holds.
MOST_DECISIONS = 100

Context = aio.ServicerContext[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class WatchLimits:
    """How many watches may be open at once."""

    in_all: int
    per_client: int


class JobService(job_pb2_grpc.JobServiceServicer):
    """Takes jobs and tells of them."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        scheduler: Scheduler,
        planner: Planner,
        submissions: Submissions,
        *,
        limits: WatchLimits,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._scheduler = scheduler
        self._planner = planner
        self._submissions = submissions
        self._limits = limits
        self._watches = OpenStreams("watches")

    async def SubmitJob(self, request: wire.SubmitJobRequest, context: Context) -> wire.SubmitJobResponse:  # noqa: N802, ARG002 - the wire's
        """Store a job."""
        violations = check_spec(request.spec) if request.HasField("spec") else [Violation("spec", "is missing")]
        refuse([*violations, *check_text("request_id", request.request_id, 128)])
        submitted = await self._submissions.submit(request.spec, request.request_id)
        return wire.SubmitJobResponse(job_id=submitted.job_id, already_existed=submitted.existed)

    async def GetJob(self, request: wire.GetJobRequest, context: Context) -> wire.GetJobResponse:  # noqa: N802, ARG002 - the wire's
        """Return a job with its attempts."""
        return wire.GetJobResponse(job=await self._job(require("job_id", request.job_id)))

    async def _job(self, job_id: str) -> types_wire.Job:
        row, attempts = await self._database.read(lambda tx: (job_row(tx, job_id), attempts_of(tx, job_id)))
        if row is None:
            raise NotFoundError("job", job_id)
        job = job_message(row)
        job.attempts.extend(attempt_message(each) for each in attempts)
        return job

    async def ListJobs(self, request: wire.ListJobsRequest, context: Context) -> wire.ListJobsResponse:  # noqa: N802, ARG002 - the wire's
        """Return jobs, the newest first."""
        size = page_size(request.page_size, default=50, most=1000)
        tokens = PageTokens(request)
        before = tokens.decode_number(request.page_token)
        violations = [
            *check_tenant("tenant", request.tenant),
            *check_text("name", request.name, 254),
            *check_labels("labels", dict(request.labels)),
            *check_text("provider", request.provider, 63),
        ]
        for number, state in enumerate(request.states):
            if state not in types_wire.JobState.values() or not state:
                violations.append(Violation(f"states[{number}]", f"{state} is not a state"))
        refuse(violations)
        wanted = JobFilter(
            tenant=request.tenant or "default",
            states=[JobState(state) for state in sorted(set(request.states))],
            name=request.name,
            labels=dict(request.labels),
            provider=request.provider,
            submitted_after=micros("submitted_after", request.submitted_after)
            if request.HasField("submitted_after")
            else None,
            submitted_before=micros("submitted_before", request.submitted_before)
            if request.HasField("submitted_before")
            else None,
        )
        rows = await self._database.read(lambda tx: list_jobs(tx, wanted, before, size + 1))
        response = wire.ListJobsResponse(jobs=[job_message(row) for row in rows[:size]])
        if len(rows) > size:
            response.next_page_token = tokens.encode(str(rows[size - 1]["number"]))
        return response

    async def CancelJob(self, request: wire.CancelJobRequest, context: Context) -> wire.CancelJobResponse:  # noqa: N802, ARG002 - the wire's
        """Store the wish to stop a job and send it on its way."""
        job_id = require("job_id", request.job_id)
        violations: list[Violation] = []
        if request.HasField("grace"):
            violations += check_duration("grace", request.grace, zero=True)
            if request.force:
                violations.append(Violation("grace", "can't go with force, which leaves none"))
        refuse([*violations, *check_text("reason", request.reason, 1024)])
        grace_ms = 0 if request.force else request.grace.ToMilliseconds() if request.HasField("grace") else None
        wish = CancelWish(job_id, request.reason, grace_ms)
        row = await self._database.write(lambda tx: request_cancel(tx, wish, self._attempts.settings.log_ttl_micros))
        if row is None:
            raise NotFoundError("job", job_id)
        self._attempts.cancel(row)
        return wire.CancelJobResponse(job=job_message(row))

    async def RetryJob(self, request: wire.RetryJobRequest, context: Context) -> wire.RetryJobResponse:  # noqa: N802, ARG002 - the wire's
        """Submit an ended job again, with the values of its secrets that were erased when it ended."""
        job_id = require("job_id", request.job_id)
        refuse(check_text("request_id", request.request_id, 128))
        row = await self._database.read(lambda tx: job_row(tx, job_id))
        if row is None:
            raise NotFoundError("job", job_id)
        if not JobState(row["state"]).terminal:
            raise PreconditionError(f"job {job_id} has not ended: cancel it first, or submit another")
        spec = types_wire.JobSpec.FromString(row["spec"])
        wrong, erased = give_again(spec, request.secrets)
        refuse(wrong)
        if erased:
            names = ", ".join(erased)
            raise PreconditionError(
                f"the values of job {job_id}'s secrets were erased when it ended; give again: {names}"
            )
        refuse(check_spec(spec))
        submitted = await self._submissions.submit(spec, request.request_id, retry_of=job_id)
        return wire.RetryJobResponse(job_id=submitted.job_id, already_existed=submitted.existed)

    async def WatchJob(self, request: wire.WatchJobRequest, context: Context) -> AsyncIterator[wire.WatchJobResponse]:  # noqa: N802 - the wire's name
        """Send every state change, from the first or from a version on, until the job has ended."""
        job_id = require("job_id", request.job_id)
        if request.after_version < 0:
            raise InvalidRequestError([Violation("after_version", "must not be negative")])
        limits = self._limits
        bounds = Bound("server", "", limits.in_all), Bound("client", peer_of(context), limits.per_client)
        with self._watches.counted(*bounds):
            async for response in self._watch(job_id, request.after_version):
                yield response

    async def _watch(self, job_id: str, version: int) -> AsyncIterator[wire.WatchJobResponse]:
        def look(tx: Transaction) -> tuple[RowMapping | None, Any]:
            # The job first: what it says is then in the events, too.
            return job_row(tx, job_id), events_after(tx, job_id, version)

        while True:
            moved = self._attempts.moves.changed.next_move(job_id)
            row, events = await self._database.read(look)
            if row is None:
                raise NotFoundError("job", job_id)
            ended = JobState(row["state"]).terminal
            for place, event in enumerate(events):
                version = event["version"]
                response = wire.WatchJobResponse(event=event_message(event))
                if ended and place == len(events) - 1:
                    response.outcome.ParseFromString(row["outcome"] or b"")
                yield response
            if ended:
                return
            await wait_for(moved, LOOK_AGAIN_SECONDS)

    async def ExplainJob(self, request: wire.ExplainJobRequest, context: Context) -> wire.ExplainJobResponse:  # noqa: N802, ARG002 - the wire's
        """Say why a job is where it is."""
        job_id = require("job_id", request.job_id)

        def look(tx: Transaction) -> tuple[RowMapping | None, Any, Any, Any, int]:
            row = job_row(tx, job_id)
            place = queue_position(tx, row) if row is not None and row["state"] == int(JobState.QUEUED) else 0
            decided = list_decisions(tx, job_id=job_id, limit=MOST_DECISIONS)
            return row, events_after(tx, job_id, 0), attempts_of(tx, job_id), decided, place

        row, events, attempts, decisions, place = await self._database.read(look)
        if row is None:
            raise NotFoundError("job", job_id)
        spec = types_wire.JobSpec.FromString(row["spec"])
        response = wire.ExplainJobResponse(
            state=row["state"], queue_position=place, events=[event_message(event) for event in events]
        )
        plan = await self._planner.plan(spec, row)
        response.providers.extend(plan.candidates)
        response.decisions.extend(decision_of(each) for each in reversed(decisions))
        response.summary = row["reason"]
        if place:
            ready = row["not_before"] <= row["submitted_at"] or not row["attempt_number"]
            why = "" if ready else " (after a back-off)"
            last = wire.Decision.FromString(decisions[0]["decision"] if decisions else b"")
            # The last decision of a job that was placed before says why it was, not why it waits.
            reason = last.reason if last.reason and not last.attempt_number else plan.reason
            response.summary = f"Waits at place {place} of its tenant's queue{why}: {reason}"
        live = self._attempts.live.of_job(job_id)
        if live is not None:
            response.diagnosis.extend(await self._scheduler.fleet.diagnose(live.worker_id, live.provider))
        elif attempts and attempts[-1]["outcome"] is not None:
            outcome = types_wire.Outcome.FromString(attempts[-1]["outcome"])
            response.diagnosis.append(f"attempt {attempts[-1]['number']}: {outcome.message}")
        return response

    async def PlanJob(self, request: wire.PlanJobRequest, context: Context) -> wire.PlanJobResponse:  # noqa: N802, ARG002 - the wire's
        """Say where a job would go now, and why; nothing is submitted."""
        refuse(check_spec(request.spec) if request.HasField("spec") else [Violation("spec", "is missing")])
        self._submissions.refuse_unknown(request.spec)
        return wire.PlanJobResponse(decision=await self._planner.plan(without_values(request.spec)))

    async def ListDecisions(self, request: wire.ListDecisionsRequest, context: Context) -> wire.ListDecisionsResponse:  # noqa: N802, ARG002 - the wire's
        """Return what was decided, the newest first."""
        size = page_size(request.page_size, default=100, most=1000)
        refuse([*check_tenant("tenant", request.tenant), *check_text("job_id", request.job_id, 32)])
        tokens = PageTokens(request)
        before, tenant, job_id = tokens.decode_number(request.page_token), request.tenant or "default", request.job_id
        if job_id and await self._database.read(lambda tx: job_row(tx, job_id)) is None:
            raise NotFoundError("job", job_id)
        rows = await self._database.read(
            lambda tx: list_decisions(tx, tenant=tenant, job_id=job_id, before=before, limit=size + 1)
        )
        response = wire.ListDecisionsResponse(decisions=[decision_of(row, with_spec=True) for row in rows[:size]])
        if len(rows) > size:
            response.next_page_token = tokens.encode(str(rows[size - 1]["number"]))
        return response
