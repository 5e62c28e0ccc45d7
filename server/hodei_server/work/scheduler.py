"""Gives waiting jobs to workers: to an idle one that fits, or to one that is launched for them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog
from google.protobuf.duration_pb2 import Duration
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_providers.contract import ProviderError, Purpose, QuotaExceededError
from hodei_server.db.attempts import Assignment, assign
from hodei_server.db.database import Database, Transaction
from hodei_server.db.job_queries import queue_page
from hodei_server.db.jobs import duration_micros
from hodei_server.db.providers import ProviderState
from hodei_server.db.workers import NewWorker, counts_by_provider, idle_workers, insert_worker, take_worker, worker_row
from hodei_server.domain.ids import new_attempt_uid, new_worker_id
from hodei_server.domain.strategies import Candidate, Verdict, rank
from hodei_server.logs.changes import Change
from hodei_server.metrics.instruments import QUEUE_WAIT
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet, cause_of
from hodei_server.work.live import LiveAttempt
from hodei_server.work.placing import Placing
from hodei_server.work.sessions import Sessions

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Waiting jobs looked at in one transaction, a page and in all.
PAGE = 200
MOST_LOOKED_AT = 5000


@dataclasses.dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """How jobs are given out.

    :param strategy: of jobs that name none.
    :param start_timeout: seconds, of jobs that name none.
    :param cancel_grace: seconds, of jobs that name none.
    :param orphan_after: seconds without the server after which a worker ends its job by itself.
    :param owner: this server's id, written beside the logs.
    """

    strategy: int
    start_timeout: float
    cancel_grace: float
    orphan_after: float
    worker_max_jobs: int
    owner: str
    max_queued: int


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A job that was given to a worker, whether that is still to be launched, and for how many seconds it waited."""

    job: RowMapping
    tenant: str
    attempt_uid: str
    provider: str
    worker_id: str
    launch: bool
    waited: float


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one look at the queue came to.

    :param full: no job could be given a place now.
    :param crowded: providers that had no room for a job which they could run.
    :param in_the_way: idle workers that keep jobs from a full provider and that none of them can have.
    """

    given: list[Given]
    full: bool
    crowded: frozenset[str]
    in_the_way: list[str]


class Scheduler:
    """Dispatches. `wake` says that there may be something to do."""

    def __init__(
        self, database: Database, fleet: Fleet, sessions: Sessions, attempts: Attempts, settings: SchedulerSettings
    ) -> None:
        self.fleet = fleet
        self.wake = Change()
        self.states: dict[str, ProviderState] = dict.fromkeys(fleet.providers, ProviderState.ENABLED)
        self.failures: dict[str, int] = dict.fromkeys(fleet.providers, 0)
        #: Moves when workers were given away: a pool may have to be filled again.
        self.taken = Change()
        #: Told of each job that was given out: the provider, the image and the resources, encoded, that it asks for.
        self.on_given: Callable[[str, str, bytes], None] = lambda _provider, _image, _resources: None
        #: Whether the last look left no worker idle and no room for another: a new job changes nothing then.
        self.full = False
        #: Providers that had no room for a job in the last look: jobs come before pools.
        self.crowded: frozenset[str] = frozenset()
        self.queue_may_be_full = False
        self._submitted_since_count = 0
        self._database = database
        self._sessions = sessions
        self.attempts = attempts
        self._settings = settings

    def submitted(self) -> None:
        """Note a new job. The queue is counted only where it may have reached its limit."""
        self._submitted_since_count += 1
        self.queue_may_be_full = self._submitted_since_count >= self._settings.max_queued // 2
        self.wake.moved()

    def candidates(self, held: Mapping[str, int], before: Mapping[str, int] | None = None) -> list[Candidate]:
        """Return every provider as strategies see it.

        :param held: how many workers each has.
        :param before: how many each had when the look began; the same when None. One that is on trial gets one more.
        """
        found = []
        for name, provider in self.fleet.providers.items():
            offers, health = provider.capabilities(), self.fleet.health[name]
            most, breaker, now = offers.max_resources, self.fleet.breakers[name], time.monotonic()
            refusal = breaker.refusal(now)
            state = self.states.get(name, ProviderState.ENABLED)
            found.append(
                Candidate(
                    name=name,
                    enabled=state is ProviderState.ENABLED,
                    closed=f"it is {state.name.lower()}",
                    healthy=health.healthy and not refusal,
                    health_message=refusal or health.message,
                    held=held.get(name, 0),
                    max_workers=min(offers.max_workers, (before or held).get(name, 0) + 1)
                    if breaker.half_open(now)
                    else offers.max_workers,
                    images=offers.images,
                    resource_limits=offers.resource_limits,
                    refused_resources=offers.refused_resources,
                    max_resources=wire.Resources(
                        cpu_millis=most.cpu_millis,
                        memory_bytes=most.memory_bytes,
                        disk_bytes=most.disk_bytes,
                        gpu_count=most.gpu_count,
                    ),
                    gpu_types=offers.gpu_types,
                    cost_per_hour=offers.cost_per_hour,
                    startup=provider.startup_seconds,
                    regions=offers.regions,
                    labels=offers.labels,
                    refused_names=provider.refused_names,
                    failures=self.failures.get(name, 0),
                )
            )
        return found

    async def verdicts(self, spec: wire.JobSpec) -> list[Verdict]:
        """Judge every provider for a job, as it stands now."""
        held = await self._database.read(counts_by_provider)
        return rank(spec, self.candidates(held), self._settings.strategy)

    async def dispatch(self) -> int:
        """Give out what can be given out; return how many jobs that were."""
        connected = self._sessions.connected()
        look = await self._database.write(lambda tx: self._give(tx, connected))
        self.full = look.full
        self.crowded = look.crowded
        for each in look.given:
            QUEUE_WAIT.observe(each.waited)
            live = self.attempts.begin(each.job, each.attempt_uid, each.provider, each.worker_id)
            self.on_given(each.provider, live.spec.image, live.spec.resources.SerializeToString(deterministic=True))
            if each.launch:
                self.launch(live)
                continue
            session = self._sessions.get(each.worker_id)
            if session is not None:
                self.attempts.run_on(session, live)
            self.fleet.start(self._tell_purpose(live, each.tenant), f"purpose of {each.worker_id}")
        for worker_id in look.in_the_way:
            self.fleet.remove_soon(worker_id, "Makes room for a job that can't have it", leave_time=True)
        if look.given:
            self.taken.moved()
        return len(look.given)

    def _give(self, tx: Transaction, connected: frozenset[str]) -> Look:
        """Choose a worker for each waiting job, in the queue's order, as far as there is room: one transaction."""
        idle = [row for row in idle_workers(tx) if row["worker_id"] in connected]
        enabled = frozenset(name for name, state in self.states.items() if state is ProviderState.ENABLED)
        held = counts_by_provider(tx)
        candidates = partial(self.candidates, before=dict(held))
        placing = Placing(candidates, enabled, held, idle, self._settings.strategy)
        given: list[Given] = []
        after: tuple[int, int] | None = None
        looked_at = 0
        while (free := placing.free) > 0 and looked_at < MOST_LOOKED_AT:
            # No more than can find a place is read, where each does.
            limit = min(free, PAGE) if after is None else PAGE
            page = queue_page(tx, after, limit)
            for job in page:
                one = self._give_one(tx, job, placing)
                if one is not None:
                    given.append(one)
            looked_at += len(page)
            if len(page) < limit:
                break
            after = page[-1]["priority"], page[-1]["number"]
        return Look(given, placing.free == 0, frozenset(placing.crowded), placing.in_the_way())

    def _give_one(self, tx: Transaction, job: RowMapping, placing: Placing) -> Given | None:
        spec = wire.JobSpec.FromString(job["spec"])
        place = placing.choose(spec, job["tenant"])
        if place is None:
            return None
        attempt_uid, worker_id = new_attempt_uid(), place.worker_id or new_worker_id()
        if place.worker_id is not None:
            if not take_worker(tx, worker_id, attempt_uid, job["tenant"]):
                return None
        else:
            insert_worker(
                tx,
                NewWorker(
                    worker_id=worker_id,
                    provider=place.provider,
                    tenant=job["tenant"],
                    resources=spec.resources.SerializeToString(deterministic=True),
                    image=spec.image,
                    max_jobs=self._settings.worker_max_jobs,
                    attempt_uid=attempt_uid,
                ),
            )
        timeout = int(self._settings.start_timeout * 1e6)
        if spec.HasField("start_timeout"):
            timeout = duration_micros(spec.start_timeout)
        owner = self._settings.owner
        row = assign(tx, Assignment(job["job_id"], attempt_uid, place.provider, worker_id, owner, timeout))
        if row is None:
            raise AssertionError(f"job {job['job_id']} was waiting in this very transaction")
        waited = (tx.now - max(job["submitted_at"], job["not_before"])) / 1e6
        return Given(row, job["tenant"], attempt_uid, place.provider, worker_id, place.worker_id is None, waited)

    def launch(self, live: LiveAttempt) -> None:
        """Launch an attempt's worker in the background."""
        self.fleet.breakers[live.provider].begin(time.monotonic())
        self.fleet.start(self._launch(live), f"launch {live.worker_id}")

    async def _launch(self, live: LiveAttempt) -> None:
        row = await self._database.read(lambda tx: worker_row(tx, live.worker_id))
        if row is None:
            raise AssertionError(f"worker {live.worker_id} was written down before it is launched")
        try:
            await self.fleet.launch(
                row,
                purpose=_purpose_of(live, row["tenant"]),
                grace=self._grace(live.spec),
                deadline=self._deadline(live.spec, row["max_jobs"]),
                report=lambda line: self.attempts.tell(live, line),
            )
        except ProviderError as error:
            self._note_failure(live.provider, error)
            _log.warning("worker.launch_failed", worker_id=live.worker_id, provider=live.provider, error=str(error))
            self.attempts.lose_soon(live, cause_of(error), f"Provider {live.provider}: {error}")
        else:
            self.failures[live.provider] = 0
            self.fleet.breakers[live.provider].succeeded()

    async def _tell_purpose(self, live: LiveAttempt, tenant: str) -> None:
        """Tell a provider which job one of its workers was given."""
        await self.fleet.given(live.worker_id, live.provider, _purpose_of(live, tenant))

    def _grace(self, spec: wire.JobSpec) -> float:
        """Return the seconds between SIGTERM and SIGKILL of a job."""
        return _seconds(spec.cancel_grace) if spec.HasField("cancel_grace") else self._settings.cancel_grace

    def _deadline(self, spec: wire.JobSpec, max_jobs: int) -> float:
        """Return the seconds after which a worker of this job alone is of no use any more; 0 where that is never."""
        if max_jobs != 1 or not spec.HasField("run_timeout"):
            return 0.0
        starting = _seconds(spec.start_timeout) if spec.HasField("start_timeout") else self._settings.start_timeout
        return starting + _seconds(spec.run_timeout) + self._grace(spec) + self._settings.orphan_after

    def _note_failure(self, provider: str, error: ProviderError) -> None:
        self.failures[provider] = self.failures.get(provider, 0) + 1
        if error.retryable and not isinstance(error, QuotaExceededError):
            self.fleet.breakers[provider].failed(time.monotonic())
            # What is out of reach is known to be so before the next job is sent there.
            self.fleet.start(self.fleet.check_health(), "health after a failed launch")


def _purpose_of(live: LiveAttempt, tenant: str) -> Purpose:
    names = {"tenant": tenant, "job": live.job_id, "attempt": str(live.number), "attempt-uid": live.attempt_uid}
    return Purpose(names, dict(live.spec.labels), dict(live.spec.annotations))


def _seconds(duration: Duration) -> float:
    return duration_micros(duration) / 1e6
