"""Gives waiting jobs to workers: to an idle one that fits, or to one that is launched for them."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.engine import RowMapping

from hodei.v1 import types_pb2 as wire
from hodei_server.db.attempts import Assignment
from hodei_server.db.database import Database
from hodei_server.db.decisions import NewDecision, insert_decisions
from hodei_server.db.job_queries import providers_that_failed, queue_page, queued_tenants
from hodei_server.db.jobs import duration_micros
from hodei_server.db.providers import ProviderState, end_drain
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import NewWorker, idle_workers, worker_groups
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.fairness import FairQueue, Limits
from hodei_server.domain.ids import new_attempt_uid, new_worker_id
from hodei_server.domain.prices import Prices
from hodei_server.domain.reservations import Reservations
from hodei_server.domain.strategies import never, strategy_of
from hodei_server.domain.verdicts import Ranking
from hodei_server.instruments import QUEUE_WAIT
from hodei_server.logs.changes import Change
from hodei_server.settings.prices import PlacingSettings
from hodei_server.work.attempts import Attempts
from hodei_server.work.decisions import MOST_A_LOOK, Remembered, encoded_decision, gist_of, moved
from hodei_server.work.fleet import Fleet
from hodei_server.work.giving import Chosen, give, seconds_waited
from hodei_server.work.launching import Launching
from hodei_server.work.live import LiveAttempt
from hodei_server.work.look import Look
from hodei_server.work.offers import candidate_of, prices_of, usage_of
from hodei_server.work.placing import Choice, Placing
from hodei_server.work.scheduler_settings import SchedulerSettings
from hodei_server.work.sessions import Sessions
from hodei_server.work.turns import queue_of

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Jobs given out in one transaction: what else is to be written waits for no more than these.
MOST_GIVEN = 500
#: Seconds between looks at those behind the last one that has found a place, where there is no room for them.
BEHIND_SECONDS = 1.0


class Scheduler:
    """Dispatches. `wake` says that there may be something to do."""

    def __init__(
        self, database: Database, fleet: Fleet, sessions: Sessions, attempts: Attempts, settings: SchedulerSettings
    ) -> None:
        self.fleet = fleet
        self.wake = Change()
        self.states: dict[str, ProviderState] = dict.fromkeys(fleet.providers, ProviderState.ENABLED)
        #: Moves when workers were given away: a pool may have to be filled again.
        self.taken = Change()
        #: Told of each job that was given out: the provider, the image and the resources, encoded, that it asks for.
        self.on_given: Callable[[str, str, bytes], None] = lambda _provider, _image, _resources: None
        #: Whether the last look left no worker idle and no room for another: a new job changes nothing then.
        self.full = False
        #: Providers that had no room for a job in the last look: jobs come before pools.
        self.crowded: frozenset[str] = frozenset()
        #: Whether the last look has not seen the jobs that wait behind those which it gave out.
        self.behind = False
        #: Held from the writing down of attempts until they are held in memory.
        self.giving = asyncio.Lock()
        self._database = database
        self._sessions = sessions
        self.attempts = attempts
        self._settings = settings
        self._launching = Launching(
            database,
            fleet,
            attempts,
            start_timeout=settings.start_timeout,
            cancel_grace=settings.cancel_grace,
            orphan_after=settings.orphan_after,
            may_go=self._may_go,
        )
        #: What each provider costs.
        self.prices: Mapping[str, Prices] = {name: self.prices_of(name) for name in fleet.providers}
        self._reservations = Reservations(settings.slip, settings.slip_hold)
        self._remembered = Remembered()
        self._left_off: Mapping[str, Mapping[Any, Any]] = {}
        self._whole_at = float("-inf")

    @property
    def ageing(self) -> float:
        """Seconds of waiting that a point of priority is worth."""
        return self._settings.ageing

    def candidates(self, groups: Sequence[RowMapping] = ()) -> list[Candidate]:
        """Return every provider as strategies see it.

        :param groups: the workers there are, by provider and resources.
        """
        of_each: dict[str, list[RowMapping]] = {}
        for row in groups:
            of_each.setdefault(row["provider"], []).append(row)
        return [
            candidate_of(
                self.fleet,
                name,
                of_each.get(name, ()),
                self.states.get(name, ProviderState.ENABLED),
                self._settings.placing.get(name, PlacingSettings()),
            )
            for name in self.fleet.providers
        ]

    def _may_go(self, spec: wire.JobSpec, beside: frozenset[str]) -> bool:
        """Whether a job may go to a provider beside some, now or later."""
        return any(each.enabled and each.name not in beside and never(spec, each) is None for each in self.candidates())

    def prices_of(self, name: str) -> Prices:
        """Return a provider's prices."""
        return prices_of(self.fleet, name, self._settings.placing.get(name, PlacingSettings()))

    def reservations(self) -> Reservations:
        """Return what room is kept for large jobs, to be changed freely."""
        return self._reservations.copy()

    @property
    def strategies(self) -> Sequence[str]:
        """The names of all strategies."""
        return sorted(self._settings.strategies)

    @property
    def limits(self) -> Mapping[str, Limits]:
        """Weights and caps of tenants."""
        return self._settings.limits

    def placing(self, groups: Sequence[RowMapping], idle: Sequence[RowMapping], reservations: Reservations) -> Placing:
        """Return what chooses for one job after the other.

        :param groups: the workers there are, by provider and resources.
        :param idle: those that wait and are connected.
        """
        return Placing(
            self.candidates(groups),
            idle,
            self._settings.strategy,
            strategies=self._settings.strategies,
            reservations=reservations,
            now=time.monotonic(),
        )

    async def dispatch(self) -> int:
        """Give out what can be given out; return how many jobs that were: from `MOST_GIVEN` on there may be more."""
        async with self.giving:
            return await self._dispatch(self._sessions.connected())

    async def _dispatch(self, connected: frozenset[str]) -> int:
        look = await self._database.write(lambda tx: self._give(tx, connected))
        self.full = look.free <= 0
        self._reservations, self._left_off = look.reservations, look.left_off
        self._remembered.keep(look.waiting, [given.job["job_id"] for given in look.given])
        self.crowded = look.crowded if look.whole else self.crowded | look.crowded
        self.behind = not look.whole
        if look.whole:
            self._whole_at = time.monotonic()
        for name in look.drained:
            if self.states[name] is ProviderState.DRAINING:
                self.states[name] = ProviderState.DISABLED
                _log.info("provider.drained", provider=name)
        for each in look.given:
            QUEUE_WAIT.observe(each.waited)
            live = self.attempts.begin(each.job, each.attempt_uid, each.provider, each.worker_id)
            self.hand_over(live, each.tenant, launch=each.launch)
        for worker_id in look.in_the_way:
            self.fleet.remove_soon(worker_id, "Makes room for a job that can't have it", leave_time=True, idle=True)
        if look.given:
            self.taken.moved()
        return len(look.given)

    def _give(self, tx: Transaction, connected: frozenset[str]) -> Look:
        """Choose a worker for each waiting job, in the queue's order, as far as there is room: one transaction."""
        idle = [row for row in idle_workers(tx) if row["worker_id"] in connected]
        groups, reservations = worker_groups(tx), self._reservations.copy()
        placing = self.placing(groups, idle, reservations)
        queue, full_page = queue_of(
            queued_tenants(tx),
            usage_of(groups),
            self._settings.limits,
            lambda tenant, after, limit: queue_page(tx, tenant, after, limit),
            free=placing.free,
            left_off=self._left_off,
        )
        left_off = queue.left_off if placing.free else self._left_off
        busy = {row["provider"] for row in groups}
        draining = [name for name, state in self.states.items() if state is ProviderState.DRAINING and name not in busy]
        drained = [name for name in draining if end_drain(tx, name)]
        whole = time.monotonic() - self._whole_at >= BEHIND_SECONDS
        look = Look([], [], 0, frozenset(), [], reservations, waiting={}, left_off=left_off, drained=drained)
        chosen: list[Chosen] = []
        beyond: collections.Counter[str] = collections.Counter()
        for job in queue:
            one = self._choose(tx, job, placing, queue, look)
            if one is not None:
                chosen.append(one)
                if len(chosen) >= MOST_GIVEN:
                    whole = False
                    break
            if placing.free <= 0:
                if not whole:
                    break
                beyond[job["tenant"]] += 1
                if beyond[job["tenant"]] >= full_page:
                    queue.leave(job["tenant"])
        else:
            whole = True
        given = give(tx, chosen)
        insert_decisions(tx, look.decided)
        crowded, in_the_way = frozenset(placing.crowded), placing.in_the_way()
        return dataclasses.replace(
            look, given=given, whole=whole, free=placing.free, crowded=crowded, in_the_way=in_the_way
        )

    def _choose(
        self, tx: Transaction, job: Mapping[Any, Any], placing: Placing, queue: FairQueue, look: Look
    ) -> Chosen | None:
        spec = wire.JobSpec.FromString(job["spec"])
        job_id, tenant, failed = job["job_id"], job["tenant"], providers_that_failed(tx, job)
        capped = queue.cap(tenant, spec.resources)
        waited = seconds_waited(job, tx.now)
        if capped is not None:
            choice = Choice(None, strategy_of(spec, self._settings.strategy), Ranking())
        else:
            choice = placing.choose(spec, tenant, job_id=job_id, waited=waited, avoid=frozenset(failed))
        place = choice.place
        if place is None:
            gist = gist_of(choice, capped or "")
            if len(look.waiting) < MOST_A_LOOK and not self._remembered.knows(job_id, gist):
                look.waiting[job_id] = gist
                decision = encoded_decision(job_id, spec, choice, self.prices, reason=capped or "")
                look.decided.append(NewDecision(job_id, tenant, None, decision))
            return None
        attempt_uid, worker_id = new_attempt_uid(), place.worker_id or new_worker_id()
        worker = None
        if place.worker_id is None:
            worker = NewWorker(
                worker_id=worker_id,
                provider=place.provider,
                tenant=tenant,
                resources=spec.resources.SerializeToString(deterministic=True),
                image=spec.image,
                max_jobs=self._settings.worker_max_jobs,
                attempt_uid=attempt_uid,
            )
        queue.placed(tenant, spec.resources)
        timeout = int(self._settings.start_timeout * 1e6)
        if spec.HasField("start_timeout"):
            timeout = duration_micros(spec.start_timeout)
        why = moved(failed, place.provider)
        assignment = Assignment(
            job_id, attempt_uid, place.provider, worker_id, self._settings.owner, timeout, f"; {why}" if why else ""
        )
        decision = encoded_decision(
            job_id,
            spec,
            choice,
            self.prices,
            attempt_number=job["attempt_number"] + 1,
            reason=why,
            avoid=frozenset(failed),
        )
        return Chosen(assignment, tenant, NewDecision(job_id, tenant, attempt_uid, decision), worker, waited)

    def hand_over(self, live: LiveAttempt, tenant: str, *, launch: bool) -> None:
        """Bring an attempt that was given out to its worker.

        :param launch: the worker is still to be launched; else it has waited for a job.
        """
        self.on_given(live.provider, live.spec.image, live.spec.resources.SerializeToString(deterministic=True))
        if launch:
            self.launch(live)
            return
        session = self._sessions.get(live.worker_id)
        if session is not None:
            self.attempts.run_on(session, live)
        self._launching.tell_purpose(live, tenant)

    def launch(self, live: LiveAttempt) -> None:
        """Launch an attempt's worker in the background."""
        self._launching.launch(live)
