"""What is asked for with each scrape: gauges of this moment, and what the parts have counted for themselves."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hodei import __version__
from hodei.clock import clock_moved_seconds
from hodei_providers import metrics as offered
from hodei_server.db.clock import unconfirmed_micros
from hodei_server.db.database import Database
from hodei_server.db.job_queries import oldest_queued, unfinished_counts
from hodei_server.db.providers import ProviderState
from hodei_server.db.workers import counts_by_state
from hodei_server.domain.states import JobState
from hodei_server.domain.workers import LIVE_STATES, WorkerState
from hodei_server.logs.book import LogBook
from hodei_server.rpc.log_service import LogService
from hodei_server.work.pools import Pools
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.sessions import Sessions

PREFIX = "hodei_"


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Whom a scrape asks.

    :param data_dir: the folder whose disk's room is told.
    """

    database: Database
    scheduler: Scheduler
    sessions: Sessions
    pools: Pools
    book: LogBook
    followers: LogService
    data_dir: Path


async def gather(parts: Parts) -> list[Metric]:
    """Ask everybody.

    :raise hodei_server.db.database.DatabaseUnavailableError: there is no answer without it.
    """
    jobs, oldest, workers, unconfirmed = await parts.database.read(
        lambda tx: (unfinished_counts(tx), oldest_queued(tx), counts_by_state(tx), unconfirmed_micros(tx))
    )
    return [
        _gauge("build_info", "The server's version.", ("version",), {(__version__,): 1}),
        *_of_jobs(jobs, oldest),
        *_of_workers(parts, workers),
        *_of_logs(parts),
        _of_clock(unconfirmed / 1e6),
        *_of_providers(parts),
        *_offered(parts),
    ]


def _gauge(name: str, description: str, labels: tuple[str, ...], samples: Mapping[Any, float]) -> GaugeMetricFamily:
    """Return a family of gauges; samples are by the tuple of the labels' values."""
    family = GaugeMetricFamily(f"{PREFIX}{name}", description, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _of_jobs(jobs: Mapping[JobState, int], oldest: float) -> Iterable[Metric]:
    states = {(state.name.lower(),): count for state, count in jobs.items()}
    yield _gauge("jobs", "Jobs that have not ended, by state; the queue's depth is that of queued.", ("state",), states)
    yield _gauge("queue_oldest_seconds", "Since the oldest waiting job's submission; 0 without one.", (), {(): oldest})


def _of_workers(parts: Parts, workers: Mapping[tuple[str, WorkerState], int]) -> Iterable[Metric]:
    names = parts.scheduler.fleet.providers
    every = {(name, state.name.lower()): workers.get((name, state), 0) for name in names for state in LIVE_STATES}
    yield _gauge("workers", "Workers whose removal is not confirmed.", ("provider", "state"), every)
    connected = len(parts.sessions.connected())
    yield _gauge("workers_connected", "Workers with an open connection.", (), {(): connected})
    wanted = {(name,): parts.pools.kept_in_all(name) for name in names}
    yield _gauge("pool_wanted", "Warm workers that the pool is to keep at this moment.", ("provider",), wanted)
    refusals = CounterMetricFamily(
        f"{PREFIX}worker_refusals", "What was refused to workers, by what it was.", labels=("kind",)
    )
    for kind in ("register", "session", "hello", "protocol"):
        refusals.add_metric((kind,), parts.sessions.refusals[kind])
    yield refusals


def _of_logs(parts: Parts) -> Iterable[Metric]:
    yield _gauge("logs_open", "Logs that are being written.", (), {(): len(parts.book)})
    held = "Blocks of logs in memory, waiting to be durable or kept for followers."
    yield _gauge("log_memory_bytes", held, (), {(): parts.book.held_bytes})
    yield _gauge("followers", "Open log streams.", (), {(): parts.followers.followers})
    waiting = "Writes that wait for their transaction."
    yield _gauge("database_writes_waiting", waiting, (), {(): parts.database.waiting})
    disk = shutil.disk_usage(parts.data_dir)
    yield _gauge("disk_free_bytes", "Room on the disk of HODEI_DATA_DIR.", (), {(): disk.free})
    yield _gauge("disk_size_bytes", "That disk's size.", (), {(): disk.total})


def _of_clock(unconfirmed: float) -> Metric:
    text = "By how much the clock was moved since the start, or before it and nobody has confirmed it; < 0: set back."
    return _gauge("clock_moved_seconds", text, (), {(): unconfirmed or clock_moved_seconds()})


def _of_providers(parts: Parts) -> Iterable[Metric]:
    fleet, now = parts.scheduler.fleet, time.monotonic()
    health = fleet.health
    healthy = {(name,): float(each.healthy) for name, each in health.items()}
    yield _gauge("provider_healthy", "1 if the provider can be used.", ("provider",), healthy)
    degraded = {(name,): float(each.degraded) for name, each in health.items()}
    yield _gauge("provider_degraded", "1 if it works, but not as it should.", ("provider",), degraded)
    enabled = {(name,): float(parts.scheduler.states.get(name) is ProviderState.ENABLED) for name in fleet.providers}
    yield _gauge("provider_enabled", "0 if it is drained or disabled.", ("provider",), enabled)
    blocked = {(name,): float(bool(each.refusal(now))) for name, each in fleet.breakers.items()}
    text = "1 while it is left alone, as launches in a row have failed."
    yield _gauge("provider_breaker_open", text, ("provider",), blocked)
    most = {(name,): each.capabilities().max_workers for name, each in fleet.providers.items()}
    yield _gauge("provider_workers_limit", "Workers that it may hold at once.", ("provider",), most)


def _offered(parts: Parts) -> Iterable[Metric]:
    """Return what providers tell of themselves; those of one kind share their families."""
    families: dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily] = {}
    for name, provider in parts.scheduler.fleet.providers.items():
        for each in provider.metrics():
            family = families.get(each.name)
            if family is None:
                family = families[each.name] = _family(each)
            for values, value in each.samples.items():
                if isinstance(family, HistogramMetricFamily):
                    assert isinstance(value, offered.Distribution)  # noqa: S101 - as its kind says
                    family.add_metric((name, *values), _buckets(value), value.total)
                else:
                    assert not isinstance(value, offered.Distribution)  # noqa: S101 - the same
                    family.add_metric((name, *values), value)
    return families.values()


def _family(metric: offered.Metric) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    name, labels = f"{PREFIX}{metric.name}", ("provider", *metric.labels)
    if metric.kind == "counter":
        return CounterMetricFamily(name, metric.description, labels=labels)
    if metric.kind == "gauge":
        return GaugeMetricFamily(name, metric.description, labels=labels)
    return HistogramMetricFamily(name, metric.description, labels=labels)


def _buckets(distribution: offered.Distribution) -> list[tuple[str, float]]:
    """Return how many values lay at or below each bound, as Prometheus wants them."""
    found, below = [], 0
    for bound, count in zip((*map(str, distribution.bounds), "+Inf"), distribution.counts, strict=True):
        below += count
        found.append((bound, float(below)))
    return found
