"""Calls about jobs."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from secrets import token_hex
from typing import Any

from grpc import aio

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client.calls import Calls
from hodei_client.connection import Responses
from hodei_client.endurance import Endurance
from hodei_client.errors import HodeiError, UnavailableError
from hodei_client.secrets import Secrets, make_secrets
from hodei_client.specs import make_spec, to_duration

_ENDED = frozenset(
    {
        types_wire.JOB_STATE_SUCCEEDED,
        types_wire.JOB_STATE_FAILED,
        types_wire.JOB_STATE_CANCELLED,
        types_wire.JOB_STATE_TIMED_OUT,
    }
)


class JobCalls(Calls):
    """Submits jobs, and tells and changes what becomes of them."""

    async def submit(self, job: types_wire.JobSpec | Sequence[str], *, request_id: str = "", **fields: Any) -> str:
        """Submit a job; return its id.

        :param job: a `hodei.v1.JobSpec`, or the command: ``["python", "train.py"]``.
        :param request_id: names this submission; made up when empty, so that a lost answer makes no second job.
        :param fields: more fields of `JobSpec`: ``name="train"``, ``run_timeout=90`` (seconds),
            ``secrets={"TOKEN": "…"}``.
        :raise TypeError: the command is one string, or a job has no such field.
        :raise InvalidRequestError: fields can't be taken; all of them are named.
        :raise PreconditionError: no provider can run it.
        :raise ConflictError: the `request_id` was used for another job.
        :raise ResourceExhaustedError: too many jobs wait.
        """
        spec = make_spec(job, **fields)
        spec.tenant = spec.tenant or self.settings.tenant
        request = job_pb2.SubmitJobRequest(spec=spec, request_id=request_id or token_hex(16))
        response: job_pb2.SubmitJobResponse = await self._call(self._connected.jobs.SubmitJob, request)
        return response.job_id

    async def get(self, job_id: str) -> types_wire.Job:
        """Return a job with its attempts."""
        response: job_pb2.GetJobResponse = await self._call(
            self._connected.jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id)
        )
        return response.job

    async def list(self, request: job_pb2.ListJobsRequest | None = None) -> AsyncIterator[types_wire.Job]:
        """Yield jobs, the newest first, page by page.

        :param request: filters; its page token is used up.
        """
        page = job_pb2.ListJobsRequest()
        if request is not None:
            page.CopyFrom(request)
        page.tenant = page.tenant or self.settings.tenant
        pages: AsyncGenerator[job_pb2.ListJobsResponse, None] = self._pages(self._connected.jobs.ListJobs, page)
        async with contextlib.aclosing(pages):
            async for response in pages:
                for job in response.jobs:
                    yield job

    async def cancel(
        self, job_id: str, *, grace: float | dt.timedelta | None = None, force: bool = False, reason: str = ""
    ) -> types_wire.Job:
        """Ask for a job to be stopped; return it as the wish was stored. `wait` tells when it is gone.

        One that has ended stays as it is. Attempts are left out.

        :param grace: seconds between SIGTERM and SIGKILL; the job's own when None.
        :param force: SIGKILL at once; excludes `grace`.
        :param reason: for people; kept with the job.
        """
        request = job_pb2.CancelJobRequest(job_id=job_id, force=force, reason=reason)
        if grace is not None:
            request.grace.CopyFrom(to_duration(grace))
        response: job_pb2.CancelJobResponse = await self._call(self._connected.jobs.CancelJob, request)
        return response.job

    async def retry(self, job_id: str, *, request_id: str = "", secrets: Secrets = ()) -> str:
        """Submit an ended job again; return the new one's id.

        :param secrets: by name, the values that were erased when it ended; they go where that job had them.
        :raise PreconditionError: it has not ended, or a value is missing.
        """
        request = job_pb2.RetryJobRequest(
            job_id=job_id, request_id=request_id or token_hex(16), secrets=make_secrets(secrets)
        )
        response: job_pb2.RetryJobResponse = await self._call(self._connected.jobs.RetryJob, request)
        return response.job_id

    async def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        """Ask why a job is where it is."""
        response: job_pb2.ExplainJobResponse = await self._call(
            self._connected.jobs.ExplainJob, job_pb2.ExplainJobRequest(job_id=job_id)
        )
        return response

    async def plan(self, job: types_wire.JobSpec | Sequence[str], **fields: Any) -> job_pb2.Decision:
        """Ask where a job would go now, and why; nothing is submitted.

        :param job: as for `submit`, `fields` too.
        """
        spec = make_spec(job, **fields)
        spec.tenant = spec.tenant or self.settings.tenant
        response: job_pb2.PlanJobResponse = await self._call(
            self._connected.jobs.PlanJob, job_pb2.PlanJobRequest(spec=spec)
        )
        return response.decision

    async def decisions(self, *, job_id: str = "", tenant: str = "") -> AsyncIterator[job_pb2.Decision]:
        """Yield what was decided, the newest first, page by page.

        :param job_id: of one job; of all the tenant's when empty.
        """
        page = job_pb2.ListDecisionsRequest(job_id=job_id, tenant=tenant or self.settings.tenant)
        pages: AsyncGenerator[job_pb2.ListDecisionsResponse, None] = self._pages(
            self._connected.jobs.ListDecisions, page
        )
        async with contextlib.aclosing(pages):
            async for response in pages:
                for decision in response.decisions:
                    yield decision

    async def watch(self, job_id: str, *, after_version: int = 0) -> AsyncGenerator[job_pb2.WatchJobResponse, None]:
        """Yield every state change of a job, each once, until it has ended, over any number of broken connections."""
        version, connection = after_version, self._connected
        endurance = Endurance(self.settings.patience)
        while True:
            endurance.opening()
            try:
                await connection.reach()
                request = job_pb2.WatchJobRequest(job_id=job_id, after_version=version)
                # No name for the call: this frame lives in what is raised here, and would keep it.
                async with Responses(
                    self._connected.jobs.WatchJob(request, metadata=connection.metadata())
                ) as responses:
                    async for response in responses:
                        endurance.served()
                        version = response.event.version
                        yield response
                        if response.HasField("outcome"):
                            return
                # Without an outcome this is a break (L06), unless nothing came after the version that was asked for.
                job = await self.get(job_id)
                if job.state in _ENDED and job.version <= version:
                    return
                failure: HodeiError = UnavailableError("the watch ended without an outcome")
            except aio.AioRpcError as error:
                failure = connection.failure(error)
            except UnavailableError as error:
                failure = error
            await endurance.endure(failure, reached=connection.reached)

    async def wait(self, job_id: str) -> types_wire.Outcome:
        """Wait for the end of a job and all of its attempts; return its outcome: state, cause, exit code, message."""
        async with contextlib.aclosing(self.watch(job_id)) as watching:
            async for response in watching:
                if response.HasField("outcome"):
                    return response.outcome
        job = await self.get(job_id)
        return job.outcome
