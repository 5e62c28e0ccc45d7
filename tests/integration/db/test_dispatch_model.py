"""What is given out, against a model that looks at every provider for every job."""

from __future__ import annotations

import collections
import dataclasses
import time
import types
from collections.abc import Iterator
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_faults.machine import SchedulerMachine, finished, pick, run_machine
from hodei_providers.contract import Capabilities, Health, Resources
from hodei_providers.memory import MemoryProvider
from hodei_server.db.attempts import LogEnd, finish, keep_result, release_worker
from hodei_server.db.jobs import NewJob, insert_job
from hodei_server.db.providers import ProviderState
from hodei_server.db.transaction import Transaction
from hodei_server.db.workers import begin_removal, confirm_removal, said_hello
from hodei_server.domain.breaker import Breaker
from hodei_server.domain.fairness import Limits
from hodei_server.domain.measures import Measures
from hodei_server.work import turns
from hodei_server.work.scheduler_settings import SchedulerSettings

T = TypeVar("T")
DEFAULT_STRATEGY = "fastest-startup"
NAMES = ["a", "b", "c"]
LABELS = st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["x", "y"]), max_size=2)
CAPABILITIES = st.builds(
    Capabilities,
    max_workers=st.integers(0, 3),
    max_resources=st.builds(Resources, cpu_millis=st.sampled_from([0, 1000]), gpu_count=st.sampled_from([0, 1])),
    images=st.booleans(),
    resource_limits=st.booleans(),
    cost_per_hour=st.sampled_from([0.0, 1.0, 2.0]),
    typical_startup=st.sampled_from([0.0, 1.0, 2.0]),
    regions=st.sampled_from([(), ("eu",), ("eu", "us")]),
    labels=LABELS,
    gpu_types=st.sampled_from([(), ("t4",)]),
)
#: Most jobs ask for nothing in particular.
PLAIN = st.builds(wire.Resources)
GREEDY = st.builds(
    wire.Resources,
    cpu_millis=st.sampled_from([0, 500, 2000]),
    gpu_count=st.sampled_from([0, 1, 2]),
    gpu_type=st.sampled_from(["", "t4"]),
)
SPECS = st.builds(
    wire.JobSpec,
    argv=st.just(["true"]),
    priority=st.integers(-1, 1),
    providers=st.sampled_from([[], [], ["a"], ["b", "c"], ["nobody"]]),
    image=st.sampled_from(["", "", "debian"]),
    region=st.sampled_from(["", "", "eu", "us"]),
    required_labels=st.one_of(st.just({}), st.just({}), LABELS),
    preferred_labels=LABELS,
    resources=st.one_of(PLAIN, PLAIN, GREEDY),
    strategy=st.sampled_from([0, *wire.Strategy.values()]),
    tenant=st.sampled_from(["", "other"]),
    labels=st.one_of(st.just({}), LABELS),
)
#: One tenant counts double and has no more than so many jobs running.
LIMITS = {"other": Limits(weight=2.0, jobs=3)}
#: Jobs that any worker made for another of them can have.
ALIKE = st.builds(
    wire.JobSpec, argv=st.just(["true"]), priority=st.integers(-1, 1), image=st.sampled_from(["", "debian"])
)


class Described(MemoryProvider):
    """A provider that can do what it is told it can."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        super().__init__(name)
        self._capabilities = capabilities


@dataclasses.dataclass
class Job:
    job_id: str
    spec: wire.JobSpec
    attempt_uid: str = ""
    worker: Worker | None = None
    ended: bool = False


@dataclasses.dataclass
class Worker:
    worker_id: str
    provider: str
    made_for: wire.JobSpec
    gone: bool = False


def never(spec: wire.JobSpec, name: str, offers: Capabilities) -> bool:
    """Whether a provider is none for a job, however things change."""
    asked, most = spec.resources, offers.max_resources
    amounts = [(asked.cpu_millis, most.cpu_millis), (asked.gpu_count, most.gpu_count)]
    return (
        (bool(spec.providers) and name not in spec.providers)
        or (bool(spec.image) and not offers.images)
        or not dict(spec.required_labels).items() <= dict(offers.labels).items()
        or (bool(spec.region) and spec.region not in offers.regions)
        or any(wanted and not offers.resource_limits for wanted, _ in amounts)
        or any(limit and wanted > limit for wanted, limit in amounts)
        or (bool(asked.gpu_type) and asked.gpu_type not in offers.gpu_types)
    )


class Dispatch(SchedulerMachine):
    """Jobs come and end, workers come and go, providers change their mind."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.workers: list[Worker] = []
        self.fleet = types.SimpleNamespace(
            providers={},
            health={},
            breakers=collections.defaultdict(Breaker),
            measures={},
            start=lambda coroutine, _name: coroutine.close(),
            given=lambda *_: None,
            remove_soon=lambda _worker_id, _reason, **_options: None,
        )

    @initialize(offers=st.lists(CAPABILITIES, min_size=1, max_size=3))
    def configure(self, offers: list[Capabilities]) -> None:
        """Have some providers."""
        self.offers = dict(zip(NAMES, offers, strict=False))
        self.fleet.providers = {name: Described(name, each) for name, each in self.offers.items()}
        self.fleet.health = dict.fromkeys(self.offers, Health(healthy=True))
        self.fleet.measures = {name: Measures(each.typical_startup) for name, each in self.offers.items()}
        self.pings: dict[str, list[bool]] = {name: [] for name in self.offers}
        options = SchedulerSettings(DEFAULT_STRATEGY, 30, 10, 600, 0, "server", limits=LIMITS)
        self.scheduler = self.scheduler_of(self.fleet, options)

    def busy(self) -> list[Job]:
        """Return jobs that have a worker."""
        return [job for job in self.jobs if job.worker is not None and not job.ended]

    @precondition(lambda self: len(self.jobs) < 20)
    @rule(specs=st.lists(st.one_of(SPECS, ALIKE, ALIKE), min_size=1, max_size=4))
    def submit(self, specs: list[wire.JobSpec]) -> None:
        """Have more jobs wait."""
        for spec in specs:
            new = NewJob(f"j{len(self.jobs)}", spec, "anonymous")
            self.do(lambda tx, new=new: insert_job(tx, new))  # type: ignore[misc]
            self.jobs.append(Job(new.job_id, spec))

    @rule(
        name=st.sampled_from(NAMES),
        state=st.sampled_from(list(ProviderState)),
        healthy=st.booleans(),
        well=st.booleans(),
    )
    def change(self, name: str, state: ProviderState, *, healthy: bool, well: bool) -> None:
        """Change what is known of a provider."""
        if name in self.offers:
            self.scheduler.states[name] = state
            self.pings[name].append(well)
            self.fleet.measures[name].health.add(time.monotonic(), well=well)
            self.fleet.health[name] = Health(healthy=healthy)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), connect=st.booleans())
    def hello(self, data: st.DataObject, *, connect: bool) -> None:
        """Connect a worker, or break its connection."""
        worker = pick(data, self.workers)
        session = self.sessions.get(worker.worker_id)
        if not connect and session is not None:
            self.sessions.disconnect(session)
        elif not worker.gone:
            self.do(lambda tx: said_hello(tx, worker.worker_id))
            self.sessions.connect(worker.worker_id)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), stays=st.sampled_from([True, True, False]))
    def end(self, data: st.DataObject, *, stays: bool) -> None:
        """End a job; its worker is idle then, or gone."""
        job = pick(data, self.busy())
        worker = job.worker
        assert worker is not None

        def write(tx: Transaction) -> None:
            said_hello(tx, worker.worker_id)
            uid = job.attempt_uid
            keep_result(
                tx, worker_wire.AttemptResult(attempt_uid=uid, epoch=1, cause=wire.CAUSE_EXIT_CODE, exit_code=0)
            )
            finish(tx, uid, LogEnd(0, complete=True, open_segment=None), 1)
            release_worker(tx, worker.worker_id, uid)
            if not stays:
                begin_removal(tx, worker.worker_id, "why")
                confirm_removal(tx, worker.worker_id)

        self.do(write)
        job.ended, worker.gone = True, not stays
        if stays:
            self.sessions.connect(worker.worker_id)

    @precondition(lambda self: self.jobs)
    @rule()
    def dispatch(self) -> None:
        """See that each waiting job gets the worker it may have, in the queues' order, or that there is none."""
        self.given.clear()
        assert finished(self.scheduler.dispatch()) == len(self.given)
        occupied = {id(job.worker) for job in self.busy()}
        held = {name: sum(w.provider == name and not w.gone for w in self.workers) for name in self.offers}
        idle = [w for w in self.workers if not w.gone and id(w) not in occupied and self.sessions.get(w.worker_id)]
        given = iter(self.given)
        queues: dict[str, list[Job]] = {}
        # A point of priority is a minute, and no example takes so long.
        for job in sorted((job for job in self.jobs if job.worker is None), key=lambda job: -job.spec.priority):
            queues.setdefault(job.spec.tenant, []).append(job)
        running: dict[str, list[Job]] = {tenant: [] for tenant in queues}
        for job in self.busy():
            running.setdefault(job.spec.tenant, []).append(job)
        while queues:
            job = min((queue[0] for queue in queues.values()), key=lambda job: self.turn(job, running[job.spec.tenant]))
            tenant = job.spec.tenant
            if tenant == "other" and len(running[tenant]) >= 3:
                del queues[tenant]
                continue
            del queues[tenant][0]
            if not queues[tenant]:
                del queues[tenant]
            if self.check_given(job, held, idle, given):
                running[tenant].append(job)
        assert list(given) == []
        assert all(held[name] <= self.offers[name].max_workers for name in held)

    def turn(self, job: Job, running: list[Job]) -> tuple[float, int, int, str]:
        """Return what decides whose job is next: what its tenant has for its weight."""
        has = sum(max(each.spec.resources.cpu_millis / 1000, 1.0) for each in running)
        tenant = job.spec.tenant
        return has / (2 if tenant else 1), -job.spec.priority, self.jobs.index(job), tenant

    def check_given(
        self, job: Job, held: dict[str, int], idle: list[Worker], given: Iterator[tuple[str, str, str, str]]
    ) -> bool:
        """See that a job has the best place there is; return whether there is one."""
        enabled = [
            name
            for name, offers in self.offers.items()
            if not never(job.spec, name, offers) and self.scheduler.states[name] is ProviderState.ENABLED
        ]
        fitting = {w.worker_id: w for w in idle if w.provider in enabled and alike(w.made_for, job.spec)}
        ready = {w.provider for w in fitting.values()}
        roomy = {n for n in enabled if self.fleet.health[n].healthy and held[n] < self.offers[n].max_workers}
        if not ready | roomy:
            return False
        job_id, job.attempt_uid, provider, worker_id = next(given)
        assert job_id == job.job_id

        def rank(name: str) -> tuple[float, str]:
            return -self.score(job.spec, name, held[name], ready=name in ready), name

        assert provider == min(ready | roomy, key=rank)
        job.worker = fitting.get(worker_id)
        assert (job.worker is not None) == (provider in ready)
        if job.worker is not None:
            idle.remove(job.worker)
            return True
        held[provider] += 1
        job.worker = Worker(worker_id, provider, job.spec)
        self.workers.append(job.worker)
        return True

    def score(self, spec: wire.JobSpec, name: str, held: int, *, ready: bool) -> float:
        """Return how good a provider is for a job by the strategy that it names."""
        offers, pings = self.offers[name], self.pings[name]
        labels = sum(offers.labels.get(key) == value for key, value in spec.preferred_labels.items())
        own = sum(offers.labels.get(key) == value for key, value in spec.labels.items())
        return {
            wire.STRATEGY_LOWEST_COST: -offers.cost_per_hour,
            wire.STRATEGY_FASTEST_STARTUP: 0.0 if ready else -offers.typical_startup,
            wire.STRATEGY_MOST_CAPACITY: max(offers.max_workers - held, 0),
            wire.STRATEGY_HEALTHIEST: round(sum(pings) / len(pings), 3) if pings else 1.0,
            wire.STRATEGY_LABELS: labels + own / 1000,
        }[spec.strategy or wire.STRATEGY_FASTEST_STARTUP]


def alike(made_for: wire.JobSpec, spec: wire.JobSpec) -> bool:
    """Whether a worker that was made for a job is one for another."""
    return (made_for.tenant, made_for.image, made_for.resources) == (spec.tenant, spec.image, spec.resources)


def test_what_can_run_somewhere_is_given_out_and_nothing_else(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W15, W36, W44: to the tenant that has least, by priority, then submission; what is starting counts."""
    # Several pages, so that what is behind the first is looked at.
    monkeypatch.setattr(turns, "PAGE", 3)
    run_machine(Dispatch, database_url, examples=80, steps=30)
