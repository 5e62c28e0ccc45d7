"""Launches the workers that jobs were given to, and tells running ones what they were given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from google.protobuf.duration_pb2 import Duration

from hodei.v1 import types_pb2 as wire
from hodei_providers.contract import (
    ImageRejectedError,
    LaunchRejectedError,
    ProviderError,
    Purpose,
    QuotaExceededError,
    UnsupportedRequestError,
)
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.job_queries import providers_that_failed
from hodei_server.db.jobs import duration_micros
from hodei_server.db.workers import worker_row
from hodei_server.domain.blame import Blame, of_launch
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet, cause_of
from hodei_server.work.live import LiveAttempt

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds before a launch is gone on with that the database has failed.
RETRY_SECONDS = 1.0
#: What a provider will never launch, however often it is asked.
_FINAL = (LaunchRejectedError, UnsupportedRequestError)
#: What refuses a launch for what its job asks.
_BY_JOB = (QuotaExceededError, ImageRejectedError, UnsupportedRequestError)


class Launching:
    """Launches attempts' workers in the background.

    :param start_timeout: seconds, of jobs that name none, as `cancel_grace`.
    :param orphan_after: seconds without the server after which a worker ends its job by itself.
    :param may_go: says whether a job may go to a provider beside some.
    """

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        attempts: Attempts,
        *,
        start_timeout: float,
        cancel_grace: float,
        orphan_after: float,
        may_go: Callable[[wire.JobSpec, frozenset[str]], bool],
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._attempts = attempts
        self._start_timeout = start_timeout
        self._cancel_grace = cancel_grace
        self._orphan_after = orphan_after
        self._may_go = may_go

    def launch(self, live: LiveAttempt) -> None:
        """Launch an attempt's worker in the background."""
        self._fleet.breakers[live.provider].begin(time.monotonic(), self._start_timeout)
        self._fleet.start(self._launch(live), f"launch {live.worker_id}")

    async def _launch(self, live: LiveAttempt) -> None:
        while not live.losing and live.result is None:
            try:
                await self._try_launch(live)
            except DatabaseUnavailableError as error:
                # What was launched is found, and not launched twice.
                _log.warning("database.unavailable", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _try_launch(self, live: LiveAttempt) -> None:
        row = await self._database.read(lambda tx: worker_row(tx, live.worker_id))
        if row is None:
            raise AssertionError(f"worker {live.worker_id} was written down before it is launched")
        try:
            await self._fleet.launch(
                row,
                purpose=_purpose_of(live, row["tenant"]),
                grace=self._grace(live.spec),
                deadline=self._deadline(live.spec, row["max_jobs"]),
                report=lambda line: self._attempts.tell(live, line),
            )
        except ProviderError as error:
            self._fleet.failed(live.provider, blame_of(error, given_up=live.losing))
            _log.warning("worker.launch_failed", worker_id=live.worker_id, provider=live.provider, error=str(error))
            final = isinstance(error, _FINAL) and not await self._may_go_elsewhere(live)
            self._attempts.lose_soon(live, cause_of(error), f"Provider {live.provider}: {error}", final=final)

    async def _may_go_elsewhere(self, live: LiveAttempt) -> bool:
        """Whether there is a provider for an attempt's job that has not failed it."""
        job = {"job_id": live.job_id, "attempt_number": live.number}
        failed = await self._database.read(lambda tx: providers_that_failed(tx, job))
        return self._may_go(live.spec, frozenset({live.provider, *failed}))

    def tell_purpose(self, live: LiveAttempt, tenant: str) -> None:
        """Tell a provider in the background which job one of its workers was given."""
        self._fleet.given(live.worker_id, live.provider, lambda: _purpose_of(live, tenant))

    def _grace(self, spec: wire.JobSpec) -> float:
        """Return the seconds between SIGTERM and SIGKILL of a job."""
        return _seconds(spec.cancel_grace) if spec.HasField("cancel_grace") else self._cancel_grace

    def _deadline(self, spec: wire.JobSpec, max_jobs: int) -> float:
        """Return the seconds after which a worker of this job alone is of no use any more; 0 where that is never."""
        if max_jobs != 1 or not spec.HasField("run_timeout"):
            return 0.0
        starting = _seconds(spec.start_timeout) if spec.HasField("start_timeout") else self._start_timeout
        return starting + _seconds(spec.run_timeout) + self._grace(spec) + self._orphan_after


def blame_of(error: ProviderError, *, given_up: bool = False) -> Blame:
    """Judge a launch that the provider refused.

    :param given_up: the worker was not wanted any more.
    """
    return of_launch(retryable=error.retryable, by_job=given_up or isinstance(error, _BY_JOB))


def _purpose_of(live: LiveAttempt, tenant: str) -> Purpose:
    names = {"tenant": tenant, "job": live.job_id, "attempt": str(live.number), "attempt-uid": live.attempt_uid}
    return Purpose(names, dict(live.spec.labels), dict(live.spec.annotations))


def _seconds(duration: Duration) -> float:
    return duration_micros(duration) / 1e6
