"""The asynchronous client."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from secrets import token_hex
from types import TracebackType
from typing import Any, Self

from grpc import aio

from hodei.v1 import (
    job_pb2,
    job_pb2_grpc,
    log_pb2,
    log_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
)
from hodei.v1 import types_pb2 as types_wire
from hodei_client.connection import Connection, Responses, trace_of_environment
from hodei_client.endurance import Endurance
from hodei_client.errors import HodeiError, UnavailableError
from hodei_client.logs import LogEvent, LogPlace, LogReader
from hodei_client.search import LogSearch, SearchEvent
from hodei_client.secrets import Secrets, make_secrets
from hodei_client.settings import ClientSettings, read_settings
from hodei_client.specs import make_spec, to_duration

__all__ = ["Client", "ClientSettings", "read_settings"]

_ENDED = frozenset(
    {
        types_wire.JOB_STATE_SUCCEEDED,
        types_wire.JOB_STATE_FAILED,
        types_wire.JOB_STATE_CANCELLED,
        types_wire.JOB_STATE_TIMED_OUT,
    }
)


class Client:
    """Talks to a server. An asynchronous context manager.

    All calls of one client belong to one trace: TRACEPARENT's where the environment has one.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    """

    def __init__(self, server: str = "", *, settings: ClientSettings | None = None) -> None:
        self.settings = settings or read_settings(server)
        self.trace_id = trace_of_environment()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Open a channel; nothing is sent yet."""
        self._connection = Connection(self.settings, self.trace_id)
        channel = self._connection.channel
        self._jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
        self._logs: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(channel)
        self._providers: provider_pb2_grpc.ProviderServiceAsyncStub = provider_pb2_grpc.ProviderServiceStub(channel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel."""
        if self._connection is not None:
            await self._connection.channel.close()

    @property
    def _connected(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("a client is used inside its 'async with'")
        return self._connection

    async def _call(self, method: Any, request: Any) -> Any:
        return await self._connected.call(method, request)

    # Jobs

    async def submit(self, job: types_wire.JobSpec | Sequence[str], *, request_id: str = "", **fields: Any) -> str:
        """Submit a job; return its id.

        :param job: a `hodei.v1.JobSpec`, or the command: ``["python", "train.py"]``.
        :param request_id: names this submission; made up when empty, so that a lost answer makes no second job.
        :param fields: more fields of `JobSpec`: ``name="train"``, ``run_timeout=90``, ``secrets={"TOKEN": "…"}``.
        """
        spec = make_spec(job, **fields)
        spec.tenant = spec.tenant or self.settings.tenant
        request = job_pb2.SubmitJobRequest(spec=spec, request_id=request_id or token_hex(16))
        response: job_pb2.SubmitJobResponse = await self._call(self._jobs.SubmitJob, request)
        return response.job_id

    async def get(self, job_id: str) -> types_wire.Job:
        """Return a job with its attempts."""
        response: job_pb2.GetJobResponse = await self._call(self._jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id))
        return response.job

    async def list(self, request: job_pb2.ListJobsRequest | None = None) -> AsyncIterator[types_wire.Job]:
        """Yield jobs, the newest first, page by page.

        :param request: filters; its page token is used up.
        """
        page = job_pb2.ListJobsRequest()
        if request is not None:
            page.CopyFrom(request)
        page.tenant = page.tenant or self.settings.tenant
        while True:
            response: job_pb2.ListJobsResponse = await self._call(self._jobs.ListJobs, page)
            for job in response.jobs:
                yield job
            if not response.next_page_token:
                return
            page.page_token = response.next_page_token

    async def cancel(
        self, job_id: str, *, grace: float | dt.timedelta | None = None, force: bool = False, reason: str = ""
    ) -> types_wire.Job:
        """Ask for a job to be stopped; return it as the wish was stored. `wait` tells when it is gone.

        :param grace: seconds between SIGTERM and SIGKILL.
        """
        request = job_pb2.CancelJobRequest(job_id=job_id, force=force, reason=reason)
        if grace is not None:
            request.grace.CopyFrom(to_duration(grace))
        response: job_pb2.CancelJobResponse = await self._call(self._jobs.CancelJob, request)
        return response.job

    async def retry(self, job_id: str, *, request_id: str = "", secrets: Secrets = ()) -> str:
        """Submit an ended job again; return the new one's id.

        :param secrets: by name, the values that were erased when it ended; they go where that job had them.
        """
        request = job_pb2.RetryJobRequest(
            job_id=job_id, request_id=request_id or token_hex(16), secrets=make_secrets(secrets)
        )
        response: job_pb2.RetryJobResponse = await self._call(self._jobs.RetryJob, request)
        return response.job_id

    async def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        """Ask why a job is where it is."""
        response: job_pb2.ExplainJobResponse = await self._call(
            self._jobs.ExplainJob, job_pb2.ExplainJobRequest(job_id=job_id)
        )
        return response

    async def plan(self, job: types_wire.JobSpec | Sequence[str], **fields: Any) -> job_pb2.Decision:
        """Ask where a job would go now, and why; nothing is submitted.

        :param job: as for `submit`, `fields` too.
        """
        spec = make_spec(job, **fields)
        spec.tenant = spec.tenant or self.settings.tenant
        response: job_pb2.PlanJobResponse = await self._call(self._jobs.PlanJob, job_pb2.PlanJobRequest(spec=spec))
        return response.decision

    async def decisions(self, *, job_id: str = "", tenant: str = "") -> AsyncIterator[job_pb2.Decision]:
        """Yield what was decided, the newest first, page by page.

        :param job_id: of one job; of all the tenant's when empty.
        """
        page = job_pb2.ListDecisionsRequest(job_id=job_id, tenant=tenant or self.settings.tenant)
        while True:
            response: job_pb2.ListDecisionsResponse = await self._call(self._jobs.ListDecisions, page)
            for decision in response.decisions:
                yield decision
            if not response.next_page_token:
                return
            page.page_token = response.next_page_token

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
                async with Responses(self._jobs.WatchJob(request, metadata=connection.metadata())) as responses:
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
        """Wait for a job's end; return its outcome."""
        async with contextlib.aclosing(self.watch(job_id)) as watching:
            async for response in watching:
                if response.HasField("outcome"):
                    return response.outcome
        job = await self.get(job_id)
        return job.outcome

    # Logs

    def logs(
        self,
        job_id: str,
        *,
        place: LogPlace | None = None,
        follow: bool = True,
        streams: Sequence[int] = (),
        verify: bool = True,
        compress: bool = False,
    ) -> AsyncIterator[LogEvent]:
        """Yield a job's log: chunks, cuts and ends of attempts, each once and in order.

        :param place: where to begin; the newest attempt's first chunk when None.
        :param follow: wait for what is to come, and go on with the next attempt after a retry.
        :param streams: only these; all when empty.
        :param verify: compare the bytes with the receipt where all of an attempt were seen.
        :raise LogIntegrityError: they differ.
        """
        return LogReader(
            self._logs,
            self._connected,
            job_id,
            place=place or LogPlace(),
            follow=follow,
            streams=streams,
            verify=verify,
            patience=self.settings.patience,
            compress=compress,
        ).events()

    def search(
        self,
        job_id: str,
        pattern: str,
        *,
        literal: bool = False,
        ignore_case: bool = False,
        place: LogPlace | None = None,
        follow: bool = False,
        streams: Sequence[int] = (),
    ) -> AsyncIterator[SearchEvent]:
        """Yield the lines of a job's log that match, each once; the server searches, other lines don't travel.

        :param pattern: an expression in RE2's syntax, matched against each line; `literal`, the text itself.
        :param place: where to begin and to end; the newest attempt's whole log when None.
        :param follow: wait for what is to come, and go on with the next attempt after a retry.
        :param streams: only these; all when empty.
        :raise InvalidRequestError: the pattern is no expression.
        """
        return LogSearch(
            self._logs,
            self._connected,
            job_id,
            place=place or LogPlace(),
            follow=follow,
            streams=streams,
            patience=self.settings.patience,
            pattern=pattern,
            literal=literal,
            ignore_case=ignore_case,
        ).events()

    async def verify_logs(self, job_id: str = "", *, tenant: str = "") -> AsyncIterator[log_pb2.VerifyLogsResponse]:
        """Have the logs of a job, or of all of a tenant's, read and compared with their receipts; yield what was found.

        :raise UnavailableError: the connection broke; what was not yielded was not verified.
        """
        request = log_pb2.VerifyLogsRequest(job_id=job_id)
        if not job_id:
            request.tenant = tenant or self.settings.tenant
        connection = self._connected
        try:
            await connection.reach()
            async with Responses(self._logs.VerifyLogs(request, metadata=connection.metadata())) as responses:
                async for response in responses:
                    yield response
                return
        except aio.AioRpcError as error:
            failure = connection.failure(error)
        # Not there: it would be raised from what holds the call.
        raise failure

    async def prune_logs(self, *, dry_run: bool = False) -> AsyncIterator[log_pb2.PruneLogsResponse]:
        """Have the server remove the logs of all tenants that have expired, and jobs; yield what has gone so far.

        :param dry_run: have it tell what would go, in one answer.
        :raise UnavailableError: the connection broke; retention goes on with what is left.
        """
        connection = self._connected
        try:
            await connection.reach()
            request = log_pb2.PruneLogsRequest(dry_run=dry_run)
            async with Responses(self._logs.PruneLogs(request, metadata=connection.metadata())) as responses:
                async for response in responses:
                    yield response
        except aio.AioRpcError as error:
            raise connection.failure(error) from None

    async def receipt(self, job_id: str, *, attempt: int = 0) -> log_pb2.LogReceipt:
        """Return what a log amounts to; the newest attempt's unless one is named."""
        response: log_pb2.GetLogReceiptResponse = await self._call(
            self._logs.GetLogReceipt, log_pb2.GetLogReceiptRequest(job_id=job_id, attempt_number=attempt)
        )
        return response.receipt

    # Providers and workers

    async def providers(self) -> Sequence[provider_pb2.Provider]:
        """Return every provider."""
        response: provider_pb2.ListProvidersResponse = await self._call(
            self._providers.ListProviders, provider_pb2.ListProvidersRequest()
        )
        return list(response.providers)

    async def provider(self, name: str) -> provider_pb2.Provider:
        """Return one provider."""
        response: provider_pb2.GetProviderResponse = await self._call(
            self._providers.GetProvider, provider_pb2.GetProviderRequest(name=name)
        )
        return response.provider

    async def set_provider_state(self, name: str, state: provider_pb2.ProviderState.ValueType) -> provider_pb2.Provider:
        """Enable, drain or disable a provider."""
        response: provider_pb2.SetProviderStateResponse = await self._call(
            self._providers.SetProviderState, provider_pb2.SetProviderStateRequest(name=name, state=state)
        )
        return response.provider

    async def workers(self, *, provider: str = "", include_gone: bool = False) -> AsyncIterator[provider_pb2.Worker]:
        """Yield workers, page by page."""
        page = provider_pb2.ListWorkersRequest(provider=provider, include_gone=include_gone)
        while True:
            response: provider_pb2.ListWorkersResponse = await self._call(self._providers.ListWorkers, page)
            for worker in response.workers:
                yield worker
            if not response.next_page_token:
                return
            page.page_token = response.next_page_token

    async def drain_worker(self, worker_id: str) -> provider_pb2.Worker:
        """Let a worker take no further job."""
        response: provider_pb2.DrainWorkerResponse = await self._call(
            self._providers.DrainWorker, provider_pb2.DrainWorkerRequest(worker_id=worker_id)
        )
        return response.worker
