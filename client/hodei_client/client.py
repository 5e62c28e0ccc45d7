"""The asynchronous client."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
import random
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from grpc import aio

from hodei.address import Address, parse_address
from hodei.transport import TlsFiles, open_channel
from hodei.v1 import (
    job_pb2,
    job_pb2_grpc,
    log_pb2,
    log_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
)
from hodei.v1 import types_pb2 as types_wire
from hodei_client.errors import ServerError, UnavailableError, from_rpc
from hodei_client.logs import LogEvent, LogPlace, LogReader
from hodei_client.specs import make_spec, to_duration

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_PORT = 50051
CALL_SECONDS = 30.0
#: How often a call that may be repeated is tried, where the server isn't there for a moment.
TRIES = 4
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclasses.dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach a server.

    :param patience: seconds that follows and watches go on trying after their connection is lost.
    """

    server: Address
    tls: TlsFiles = dataclasses.field(default_factory=TlsFiles)
    allow_plaintext: bool = False
    tenant: str = ""
    patience: float = 300.0


def read_settings(server: str = "", *, tls: TlsFiles | None = None) -> ClientSettings:
    """Read HODEI_SERVER, HODEI_TLS_CA, HODEI_TLS_CERT, HODEI_TLS_KEY, HODEI_ALLOW_PLAINTEXT and HODEI_TENANT.

    :param server: wins over HODEI_SERVER, as the files of `tls` do over theirs.
    :raise hodei.address.AddressError: the address can't be read.
    """

    def path(name: str) -> Path | None:
        return Path(os.environ[name]) if os.environ.get(name) else None

    given = tls or TlsFiles()
    files = TlsFiles(
        given.ca or path("HODEI_TLS_CA"),
        given.certificate or path("HODEI_TLS_CERT"),
        given.key or path("HODEI_TLS_KEY"),
    )
    address = server or os.environ.get("HODEI_SERVER") or DEFAULT_SERVER
    return ClientSettings(
        server=parse_address(address, default_port=DEFAULT_PORT),
        tls=files,
        allow_plaintext=os.environ.get("HODEI_ALLOW_PLAINTEXT", "").lower() in {"1", "true"},
        tenant=os.environ.get("HODEI_TENANT", ""),
    )


class Client:
    """Talks to a server. An asynchronous context manager.

    All calls of one client belong to one trace: TRACEPARENT's where the environment has one.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    """

    def __init__(self, server: str = "", *, settings: ClientSettings | None = None) -> None:
        self.settings = settings or read_settings(server)
        given = os.environ.get("TRACEPARENT", "")
        self.trace_id = given.split("-")[1] if _TRACEPARENT.fullmatch(given) else secrets.token_hex(16)
        self._channel: aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Open a channel; nothing is sent yet."""
        settings = self.settings
        self._channel = open_channel(settings.server, settings.tls, allow_plaintext=settings.allow_plaintext)
        self._jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(self._channel)
        self._logs: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(self._channel)
        self._providers: provider_pb2_grpc.ProviderServiceAsyncStub = provider_pb2_grpc.ProviderServiceStub(
            self._channel
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("traceparent", f"00-{self.trace_id}-{secrets.token_hex(8)}-01"),)

    async def _call(self, method: Callable[..., Any], request: Any, *, repeat: bool = True) -> Any:
        """Make a unary call.

        :param repeat: whether it does no harm to make it again.
        """
        for attempt in range(1, TRIES + 1):
            try:
                call: Awaitable[Any] = method(request, timeout=CALL_SECONDS, metadata=self._metadata())
                return await call
            except aio.AioRpcError as error:
                failure = from_rpc(error, str(self.settings.server))
                if not repeat or not isinstance(failure, UnavailableError) or attempt == TRIES:
                    raise failure from None
            await asyncio.sleep(random.uniform(0.0, 0.1 * 2.0**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError

    # Jobs

    async def submit(self, job: types_wire.JobSpec | Sequence[str], *, request_id: str = "", **fields: Any) -> str:
        """Submit a job; return its id.

        :param job: a `hodei.v1.JobSpec`, or the command: ``["python", "train.py"]``.
        :param request_id: names this submission; made up when empty, so that a lost answer makes no second job.
        :param fields: more fields of `JobSpec`: ``name="train"``, ``run_timeout=90``.
        """
        spec = make_spec(job, **fields)
        spec.tenant = spec.tenant or self.settings.tenant
        request = job_pb2.SubmitJobRequest(spec=spec, request_id=request_id or secrets.token_hex(16))
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

    async def retry(self, job_id: str, *, request_id: str = "") -> str:
        """Submit an ended job again; return the new one's id."""
        request = job_pb2.RetryJobRequest(job_id=job_id, request_id=request_id or secrets.token_hex(16))
        response: job_pb2.RetryJobResponse = await self._call(self._jobs.RetryJob, request)
        return response.job_id

    async def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        """Ask why a job is where it is."""
        response: job_pb2.ExplainJobResponse = await self._call(
            self._jobs.ExplainJob, job_pb2.ExplainJobRequest(job_id=job_id)
        )
        return response

    async def watch(self, job_id: str, *, after_version: int = 0) -> AsyncIterator[job_pb2.WatchJobResponse]:
        """Yield every state change of a job until it has ended, over any number of broken connections."""
        version, failures = after_version, 0
        loop = asyncio.get_running_loop()
        lost_at, connected = 0.0, False
        while True:
            try:
                call = self._jobs.WatchJob(
                    job_pb2.WatchJobRequest(job_id=job_id, after_version=version), metadata=self._metadata()
                )
                async for response in call:
                    connected, failures = True, 0
                    version = response.event.version
                    yield response
                    if response.HasField("outcome"):
                        return
                if connected and not failures:
                    return
                failure: Exception = ServerError("the watch ended without an outcome")
            except aio.AioRpcError as error:
                failure = from_rpc(error, str(self.settings.server))
                if not isinstance(failure, UnavailableError) and error.code().name != "CANCELLED":
                    raise failure from None
            lost_at = lost_at if failures else loop.time()
            failures += 1
            if (not connected and failures >= TRIES) or loop.time() - lost_at > self.settings.patience:
                raise failure
            await asyncio.sleep(random.uniform(0.0, min(10.0, 0.1 * 2.0**failures)))  # noqa: S311 - jitter

    async def wait(self, job_id: str) -> types_wire.Outcome:
        """Wait for a job's end; return its outcome."""
        async for response in self.watch(job_id):
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
            job_id,
            place=place or LogPlace(),
            follow=follow,
            streams=streams,
            metadata=self._metadata,
            server=str(self.settings.server),
            verify=verify,
            patience=self.settings.patience,
            compress=compress,
        ).events()

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
