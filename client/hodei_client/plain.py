"""The client for programs without asyncio: the asynchronous one on a loop of its own, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from hodei.v1 import job_pb2, log_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client.client import Client, ClientSettings
from hodei_client.logs import LogEvent, LogPlace

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
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel and end the thread."""
        self._run(self._client.__aexit__(exc_type, exc, traceback))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[bool, T | None]:
            try:
                return True, await anext(iterator)
            except StopAsyncIteration:
                return False, None

        async def close() -> None:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

        try:
            while True:
                more, item = self._run(following())
                if not more:
                    return
                yield item  # type: ignore[misc]  # there is one where there is more
        finally:
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
        self, job_id: str, *, grace: float | None = None, force: bool = False, reason: str = ""
    ) -> types_wire.Job:
        """Ask for a job to be stopped."""
        return self._run(self._client.cancel(job_id, grace=grace, force=force, reason=reason))

    def retry(self, job_id: str, *, request_id: str = "") -> str:
        """Submit an ended job again; return the new one's id."""
        return self._run(self._client.retry(job_id, request_id=request_id))

    def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        """Ask why a job is where it is."""
        return self._run(self._client.explain(job_id))

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
    ) -> Iterator[LogEvent]:
        """Yield a job's log."""
        return self._iterate(self._client.logs(job_id, place=place, follow=follow, streams=streams, verify=verify))

    def receipt(self, job_id: str, *, attempt: int = 0) -> log_pb2.LogReceipt:
        """Return what a log amounts to."""
        return self._run(self._client.receipt(job_id, attempt=attempt))
