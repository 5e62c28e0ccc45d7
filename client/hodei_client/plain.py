"""The client for programs without asyncio: the asynchronous one on a loop of its own, in a thread."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from hodei.v1 import job_pb2, log_pb2, provider_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client.client import Client
from hodei_client.logs import LogEvent, LogPlace
from hodei_client.search import SearchEvent
from hodei_client.secrets import Secrets
from hodei_client.settings import ClientSettings

T = TypeVar("T")


class PlainClient:
    """Talks to a server. A context manager; may be used from several threads.

    Methods do what `Client`'s of the same names do.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    """

    def __init__(self, server: str = "", *, settings: ClientSettings | None = None) -> None:
        self._client = Client(server, settings=settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hodei-client", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread and open a channel."""
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel and end the thread."""
        try:
            self._run(self._client.__aexit__(exc_type, exc, traceback))
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C ends the wait here; the call must not go on over there.
            future.cancel()
            raise

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> list[T]:
            async for item in iterator:
                return [item]
            return []

        async def close() -> None:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

        try:
            while items := self._run(following()):
                yield from items
        finally:
            # An iterator that outlives its client has nothing left to close.
            if not self._loop.is_closed():
                self._run(close())

    def submit(self, job: types_wire.JobSpec | Sequence[str], *, request_id: str = "", **fields: Any) -> str:
        """Submit a job; return its id."""
        return self._run(self._client.submit(job, request_id=request_id, **fields))

    def get(self, job_id: str) -> types_wire.Job:
        """Return a job with its attempts."""
        return self._run(self._client.get(job_id))

    def list(self, request: job_pb2.ListJobsRequest | None = None) -> Iterator[types_wire.Job]:
        """Yield jobs, the newest first."""
        return self._iterate(self._client.list(request))

    def cancel(
        self, job_id: str, *, grace: float | dt.timedelta | None = None, force: bool = False, reason: str = ""
    ) -> types_wire.Job:
        """Ask for a job to be stopped."""
        return self._run(self._client.cancel(job_id, grace=grace, force=force, reason=reason))

    def retry(self, job_id: str, *, request_id: str = "", secrets: Secrets = ()) -> str:
        """Submit an ended job again, with the values of its secrets; return the new one's id."""
        return self._run(self._client.retry(job_id, request_id=request_id, secrets=secrets))

    def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        """Ask why a job is where it is."""
        return self._run(self._client.explain(job_id))

    def plan(self, job: types_wire.JobSpec | Sequence[str], **fields: Any) -> job_pb2.Decision:
        """Ask where a job would go now, and why."""
        return self._run(self._client.plan(job, **fields))

    def decisions(self, *, job_id: str = "", tenant: str = "") -> Iterator[job_pb2.Decision]:
        """Yield what was decided, the newest first."""
        return self._iterate(self._client.decisions(job_id=job_id, tenant=tenant))

    def watch(self, job_id: str, *, after_version: int = 0) -> Iterator[job_pb2.WatchJobResponse]:
        """Yield every state change of a job until it has ended."""
        return self._iterate(self._client.watch(job_id, after_version=after_version))

    def wait(self, job_id: str) -> types_wire.Outcome:
        """Wait for a job's end; return its outcome."""
        return self._run(self._client.wait(job_id))

    def logs(
        self,
        job_id: str,
        *,
        place: LogPlace | None = None,
        follow: bool = True,
        streams: Sequence[int] = (),
        verify: bool = True,
        compress: bool = False,
    ) -> Iterator[LogEvent]:
        """Yield a job's log."""
        events = self._client.logs(
            job_id, place=place, follow=follow, streams=streams, verify=verify, compress=compress
        )
        return self._iterate(events)

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
    ) -> Iterator[SearchEvent]:
        """Yield the lines of a job's log that match."""
        found = self._client.search(
            job_id, pattern, literal=literal, ignore_case=ignore_case, place=place, follow=follow, streams=streams
        )
        return self._iterate(found)

    def prune_logs(self, *, dry_run: bool = False) -> Iterator[log_pb2.PruneLogsResponse]:
        """Have the server remove what has expired, or tell what would go; see `Client.prune_logs`."""
        return self._iterate(self._client.prune_logs(dry_run=dry_run))

    def verify_logs(self, job_id: str = "", *, tenant: str = "") -> Iterator[log_pb2.VerifyLogsResponse]:
        """Have the logs of a job, or of all of a tenant's, read and compared with their receipts."""
        return self._iterate(self._client.verify_logs(job_id, tenant=tenant))

    def receipt(self, job_id: str, *, attempt: int = 0) -> log_pb2.LogReceipt:
        """Return what a log amounts to."""
        return self._run(self._client.receipt(job_id, attempt=attempt))

    def providers(self) -> Sequence[provider_pb2.Provider]:
        """Return every provider."""
        return self._run(self._client.providers())

    def provider(self, name: str) -> provider_pb2.Provider:
        """Return one provider."""
        return self._run(self._client.provider(name))

    def set_provider_state(self, name: str, state: provider_pb2.ProviderState.ValueType) -> provider_pb2.Provider:
        """Enable, drain or disable a provider."""
        return self._run(self._client.set_provider_state(name, state))

    def workers(self, *, provider: str = "", include_gone: bool = False) -> Iterator[provider_pb2.Worker]:
        """Yield workers."""
        return self._iterate(self._client.workers(provider=provider, include_gone=include_gone))

    def drain_worker(self, worker_id: str) -> provider_pb2.Worker:
        """Let a worker take no further job."""
        return self._run(self._client.drain_worker(worker_id))
