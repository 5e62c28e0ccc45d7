"""Attempts that are not over, as this server holds them in memory; the truth is in the database."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration

from hodei.checksum import encode_checksum
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_server.db.transaction import Transaction
from hodei_server.domain.prices import Prices
from hodei_server.domain.states import Cause
from hodei_server.logs.changes import Change, ChangesByKey
from hodei_server.logs.open_log import OpenLog

Write = Callable[[Transaction], object]


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptSettings:
    """Bounds, in seconds and bytes.

    :param log_wait: how long an ended attempt waits for the rest of its log.
    :param run_margin: what the server gives a worker beyond run timeout and grace.
    :param prices: of each provider.
    """

    default_grace: float
    run_margin: float
    log_wait: float
    log_budget: int
    log_ttl: float
    log_ttl_of_tenants: Mapping[str, float]
    prices: Mapping[str, Prices] = dataclasses.field(default_factory=dict)

    def log_ttl_micros(self, tenant: str) -> int:
        """Return for how long the logs of a tenant's jobs are kept that don't say it themselves."""
        return int(self.log_ttl_of_tenants.get(tenant, self.log_ttl) * 1e6)


@dataclasses.dataclass(slots=True, eq=False)
class LiveAttempt:
    """One attempt from its assignment to its end.

    :ivar may_have_run: its worker was told to run it, or may have been by the server before this one.
    :ivar cancel: the stop that was asked for; sent again after each reconnect.
    :ivar killed_by: monotonic seconds; by then a worker that was told at once of each wish to stop has killed it: of
        several wishes the one counts whose grace ends first.
    :ivar result: the first result there was; no other counts.
    :ivar unwritten_start: writes down that the process runs, where that was told and is not written yet.
    :ivar losing: its worker is being given up.
    :ivar lost_by: the cause and the message it is given up with, from before its worker is told to end.
    :ivar worker_gone: set once nothing more can come from its worker.
    :ivar given_up: set once its worker can't run it any more, though nobody can confirm that nothing is left of that.
    """

    job_id: str
    attempt_uid: str
    number: int
    provider: str
    worker_id: str
    spec: types_wire.JobSpec
    epoch: int
    traceparent: str
    log: OpenLog
    started: bool = False
    run_sent: bool = False
    may_have_run: bool = False
    cancel: wire.CancelAttempt | None = None
    killed_by: float = math.inf
    result: wire.AttemptResult | None = None
    losing: bool = False
    lost_by: tuple[Cause, str] | None = None
    unwritten_start: Write | None = None
    worker_gone: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    given_up: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    @property
    def names(self) -> dict[str, str | int]:
        """What stands in every log line about it."""
        trace_id = self.traceparent.split("-")[1] if self.traceparent.count("-") == 3 else ""
        return {"job_id": self.job_id, "attempt": self.number, "attempt_uid": self.attempt_uid, "trace_id": trace_id}

    def take_start(self) -> Write:
        """Return what writes the process's start down, if that is still to be done: once."""
        start, self.unwritten_start = self.unwritten_start, None
        return start or (lambda _tx: None)

    def run_message(self, secrets: Sequence[types_wire.Secret]) -> wire.ConnectResponse:
        """Return what tells the worker to run it.

        :param secrets: with their values, which are held nowhere else.
        """
        return wire.ConnectResponse(
            run=wire.RunAttempt(
                job_id=self.job_id,
                attempt_uid=self.attempt_uid,
                attempt_number=self.number,
                spec=self.spec,
                first_sequence=self.log.accepted,
                epoch=self.epoch,
                traceparent=self.traceparent,
                log_checksum=encode_checksum(self.log.checksum) if self.log.accepted else b"",
                secrets=secrets,
            )
        )

    def stop(self, grace_ms: int | None, default_grace: float, cause: Cause) -> None:
        """Note that a stop was asked for.

        :param grace_ms: overrides the job's own.
        :param default_grace: seconds, where the job names none.
        """
        grace = Duration()
        if grace_ms is not None:
            grace.FromMilliseconds(grace_ms)
        elif self.spec.HasField("cancel_grace"):
            grace.CopyFrom(self.spec.cancel_grace)
        else:
            grace.FromMilliseconds(int(default_grace * 1000))
        self.killed_by = min(self.killed_by, time.monotonic() + grace.ToTimedelta().total_seconds())
        self.cancel = wire.CancelAttempt(
            attempt_uid=self.attempt_uid,
            epoch=self.epoch,
            grace=grace,
            cause=types_wire.Cause.ValueType(int(cause)),
        )


class Moves:
    """Tells of the moves of attempts.

    :ivar changed: moves for a job id at each of its moves.
    :ivar idle: moves when a worker is free, or a job waits again.
    :ivar delayed: jobs may wait that are not to be given out before a time.
    """

    def __init__(self) -> None:
        self.changed = ChangesByKey()
        self.idle = Change()
        self.delayed = True


class LiveAttempts:
    """Finds attempts by their uid, their job and their worker."""

    def __init__(self) -> None:
        self._by_uid: dict[str, LiveAttempt] = {}
        self._by_job: dict[str, LiveAttempt] = {}
        self._by_worker: dict[str, LiveAttempt] = {}

    def add(self, live: LiveAttempt) -> None:
        """Hold an attempt."""
        self._by_uid[live.attempt_uid] = live
        self._by_job[live.job_id] = live
        self._by_worker[live.worker_id] = live

    def remove(self, live: LiveAttempt) -> None:
        """Let go of an attempt; a newer one of the same job or worker stays."""
        for index, key in (
            (self._by_uid, live.attempt_uid),
            (self._by_job, live.job_id),
            (self._by_worker, live.worker_id),
        ):
            if index.get(key) is live:
                del index[key]

    def by_uid(self, attempt_uid: str) -> LiveAttempt | None:
        """Return the attempt with a uid."""
        return self._by_uid.get(attempt_uid)

    def of_job(self, job_id: str) -> LiveAttempt | None:
        """Return the job's attempt."""
        return self._by_job.get(job_id)

    def of_worker(self, worker_id: str) -> LiveAttempt | None:
        """Return the worker's attempt."""
        return self._by_worker.get(worker_id)

    def __iter__(self) -> Iterator[LiveAttempt]:
        return iter(list(self._by_uid.values()))

    def __len__(self) -> int:
        return len(self._by_uid)
