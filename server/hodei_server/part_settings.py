"""What each part of the server is given of its settings."""

from __future__ import annotations

from collections.abc import Mapping

from hodei.transport import WORKER_LISTENER_OPTIONS
from hodei_providers.contract import Provider
from hodei_server.domain.strategies import Score
from hodei_server.logs.book import LogSettings
from hodei_server.rpc.calls import Calls
from hodei_server.rpc.listener import Listener
from hodei_server.rpc.log_service import SERVICE as LOG_SERVICE
from hodei_server.settings import Settings, SettingsError
from hodei_server.strategy_registry import load_strategies
from hodei_server.work.fleet import FleetSettings, Reach
from hodei_server.work.live import AttemptSettings
from hodei_server.work.scheduler_settings import SchedulerSettings

CLIENT_SERVICES = ("hodei.v1.JobService", LOG_SERVICE, "hodei.v1.ProviderService")


def fleet_settings(settings: Settings, installation_id: str, reach: Mapping[str, Reach]) -> FleetSettings:
    """Return what the fleet goes by."""
    environment: dict[str, str] = {"HODEI_LOG_LEVEL": settings.log_level}
    if settings.allow_plaintext:
        environment["HODEI_ALLOW_PLAINTEXT"] = "true"
    return FleetSettings(
        installation_id=installation_id,
        reach=reach,
        otp_lifetime=settings.start_timeout,
        grace=settings.cancel_grace,
        environment=environment,
    )


def attempt_settings(settings: Settings, providers: Mapping[str, Provider]) -> AttemptSettings:
    """Return the bounds of attempts."""
    placing = settings.placing
    return AttemptSettings(
        default_grace=settings.cancel_grace,
        run_margin=settings.run_margin,
        log_wait=settings.log_wait,
        log_budget=settings.log_budget,
        log_ttl=settings.log_ttl,
        log_ttl_of_tenants=settings.log_ttl_of_tenants,
        prices={name: placing[name].prices(each.capabilities().cost_per_hour) for name, each in providers.items()},
    )


def scheduler_settings(settings: Settings, server_id: str) -> SchedulerSettings:
    """Return what the scheduler goes by.

    :raise SettingsError: there is no strategy of the name.
    :raise StrategyError: one that is installed can't be used.
    """
    return SchedulerSettings(
        strategy=settings.strategy,
        start_timeout=settings.start_timeout,
        cancel_grace=settings.cancel_grace,
        orphan_after=settings.orphan_after,
        worker_max_jobs=settings.worker_max_jobs,
        owner=server_id,
        strategies=_strategies(settings),
        placing=settings.placing,
        limits=settings.limits,
        ageing=settings.priority_ageing,
        slip=settings.slip,
        slip_hold=settings.slip_hold,
    )


def log_settings(settings: Settings) -> LogSettings:
    """Return the bounds of logs."""
    return LogSettings(
        segment_bytes=settings.log_segment,
        pending_bytes=settings.log_pending,
        recent_bytes=settings.log_recent,
        memory_bytes=settings.log_memory,
    )


def make_listeners(settings: Settings) -> tuple[Listener, Listener, Listener]:
    """Return those of clients, of workers, and of probes."""
    # gRPC counts what has begun. Of as many calls again as may be under way, the request may still be on its way.
    most = 2 * settings.max_calls + settings.max_follows + settings.max_watches
    clients = Listener(CLIENT_SERVICES, health_checks=True, reflected=True, calls=_calls(settings), most=most)
    workers = Listener(["hodei.v1.WorkerService"], options=WORKER_LISTENER_OPTIONS, calls=_calls(settings))
    return clients, workers, Listener(CLIENT_SERVICES, health_checks=True)


def _calls(settings: Settings) -> Calls:
    return Calls(settings.max_calls, settings.max_call_bytes)


def _strategies(settings: Settings) -> dict[str, Score]:
    strategies = load_strategies()
    if settings.strategy not in strategies:
        known = ", ".join(sorted(strategies))
        raise SettingsError(f"HODEI_STRATEGY: there is no strategy {settings.strategy!r}; there are: {known}")
    return strategies
