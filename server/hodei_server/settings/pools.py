"""What pools of ready workers are to hold: options of each provider.

Of a whole provider:

pool_max            pools start none while the provider holds so many; default: its own bound
pool_idle_timeout   a waiting worker beyond a pool is let go; default HODEI_WORKER_IDLE_TIMEOUT
pool_time_zone      of schedules; default UTC
pools               more pools, a JSON list: the four options below without `pool_`, and for which jobs they are: image,
                    cpu, memory, disk, gpus, gpu_type

Of the pool for jobs that name no image and ask for no resources:

pool_min_ready      workers that wait, started ahead of jobs; default 0
pool_max_ready      as many as jobs took in the last pool_follow, up to so many; default pool_min_ready
pool_follow         default 1m
pool_schedule       times at which pool_min_ready is another; see `pool_schedule`
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

from hodei.quantities import parse_cpu, parse_duration, parse_size
from hodei.v1 import types_pb2 as wire
from hodei_providers.config import Given, own_variable
from hodei_server.settings.pool_schedule import Window, read_schedule
from hodei_server.settings.values import SettingsError

MOST_READY = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one provider that are for the same jobs.

    :param variable: what it was read from.
    :param image: that jobs name; `resources` as they ask for them, encoded. Only jobs that ask for the same fit.
    :param min_ready: workers that wait for a job and have run none; those that are starting count.
    :param max_ready: how far it follows what jobs take; no less than `min_ready` is kept.
    :param follow: seconds in which that is counted.
    :param schedule: when `min_ready` is another.
    """

    variable: str = ""
    image: str = ""
    resources: bytes = b""
    min_ready: int = 0
    max_ready: int = 0
    follow: float = 60.0
    schedule: tuple[Window, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it never holds anything."""
        return not (self.min_ready or self.max_ready or any(window.ready for window in self.schedule))

    def ready(self, now: dt.datetime, taken: int) -> int:
        """Return how many workers are to wait.

        :param now: in the schedule's time zone.
        :param taken: workers of it that jobs took, or would have, in the last `follow` seconds.
        """
        least = next((window.ready for window in self.schedule if window.holds(now)), self.min_ready)
        return max(least, min(taken, self.max_ready))


@dataclasses.dataclass(frozen=True, slots=True)
class PoolSettings:
    """What one provider's pools are to hold.

    :param pools: those that may hold something; no two are for the same jobs.
    :param most: workers of the provider, whatever they do, at which no pool starts another; None is its own bound.
    :param idle_timeout: seconds that a worker beyond its pool may wait for a job.
    """

    pools: tuple[Pool, ...]
    most: int | None
    idle_timeout: float
    time_zone: zoneinfo.ZoneInfo


def is_pool_option(option: str) -> bool:
    """Whether an option, in lower case, is a pool's: no provider sees it."""
    return option == "pools" or option.startswith("pool_")


def read_pools(given: Mapping[str, Mapping[str, Given]], idle_timeout: float) -> dict[str, PoolSettings]:
    """Read the pools of all providers.

    :param given: of each provider by its name, by option.
    :param idle_timeout: where a provider names none.
    :raise SettingsError: an option is unknown or can't be read.
    """
    return {name: _of_provider(name, options, idle_timeout) for name, options in given.items()}


def _of_provider(name: str, options: Mapping[str, Given], idle_timeout: float) -> PoolSettings:
    def place(option: str) -> str:
        return options[option].variable if option in options else own_variable(name, option)

    values: dict[str, Any] = {"most": None, "idle_timeout": idle_timeout, "time_zone": zoneinfo.ZoneInfo("UTC")}
    plain: dict[str, Any] = {}
    more: list[Pool] = []
    for option, each in options.items():
        if option == "pools":
            more = _more(each.variable, each.text)
        elif option in _OF_PROVIDER:
            field, read = _OF_PROVIDER[option]
            values[field] = _read(each.variable, each.text, read)
        elif option.removeprefix("pool_") in _OF_POOL:
            field = option.removeprefix("pool_")
            plain[field] = _read(each.variable, each.text, _OF_POOL[field])
        else:
            known = ", ".join([*_OF_PROVIDER, *(f"pool_{field}" for field in _OF_POOL), "pools"])
            raise SettingsError(f"{each.variable}: there is no such option; known are: {known}")
    pools = [Pool(variable=place("pool_min_ready"), **plain), *more]
    kinds = [(pool.image, pool.resources) for pool in pools]
    if len(set(kinds)) < len(kinds):
        raise SettingsError(f"{place('pools')}: two pools are for the same jobs")
    for pool in pools:
        if pool.max_ready and pool.max_ready < pool.min_ready:
            raise SettingsError(f"{pool.variable}: MAX_READY is at least MIN_READY")
    if values["most"] is not None and values["most"] < sum(pool.min_ready for pool in pools):
        raise SettingsError(f"{place('pool_max')}: it is at least POOL_MIN_READY, of all pools together")
    return PoolSettings(pools=tuple(pool for pool in pools if not pool.empty), **values)


def _more(variable: str, text: str) -> list[Pool]:
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{variable}: it is no JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError(f"{variable}: it is a JSON list of objects")
    pools = []
    for number, entry in enumerate(entries):
        values: dict[str, Any] = {"variable": f"{variable}[{number}]"}
        resources = wire.Resources()
        for key, value in entry.items():
            where = f"{variable}[{number}].{key}"
            if key in _OF_POOL:
                values[key] = _read(where, str(value), _OF_POOL[key])
            elif key in _RESOURCES:
                field, read = _RESOURCES[key]
                setattr(resources, field, _read(where, str(value), read))
            elif key == "image":
                values["image"] = str(value)
            else:
                known = ", ".join(["image", *_RESOURCES, *_OF_POOL])
                raise SettingsError(f"{where}: there is no such option; known are: {known}")
        pools.append(Pool(resources=resources.SerializeToString(deterministic=True), **values))
    return pools


def _read(variable: str, text: str, read: Callable[[str], object]) -> Any:
    try:
        return read(text)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise SettingsError(f"{variable}: {text!r} can't be used: {error}") from None


def _count(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= MOST_READY:
            raise ValueError(f"it lies between {least} and {MOST_READY}")
        return number

    return read


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError("it is not negative")
    return seconds


_OF_PROVIDER: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "pool_max": ("most", _count(1)),
    "pool_idle_timeout": ("idle_timeout", _seconds),
    "pool_time_zone": ("time_zone", zoneinfo.ZoneInfo),
}
_OF_POOL: Mapping[str, Callable[[str], object]] = {
    "min_ready": _count(0),
    "max_ready": _count(0),
    "follow": _seconds,
    "schedule": read_schedule,
}
_RESOURCES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "cpu": ("cpu_millis", parse_cpu),
    "memory": ("memory_bytes", parse_size),
    "disk": ("disk_bytes", parse_size),
    "gpus": ("gpu_count", _count(0)),
    "gpu_type": ("gpu_type", str),
}
