"""What pools of ready workers are to hold: options of each provider, read from the environment.

HODEI_PROVIDER_<NAME>_POOL_MIN_READY      workers that wait, started ahead of jobs; default 0: no pool
HODEI_PROVIDER_<NAME>_POOL_MAX            the pool starts none while the provider holds so many; default: its own bound
HODEI_PROVIDER_<NAME>_POOL_IDLE_TIMEOUT   a waiting worker beyond MIN_READY is let go; default HODEI_WORKER_IDLE_TIMEOUT
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from hodei.quantities import parse_duration

#: How the names of these options begin, in lower case: no provider sees them.
OPTION_PREFIX = "pool_"
_OPTION = re.compile(r"HODEI_PROVIDER_([A-Z0-9]+)_POOL_([A-Z_]+)")
MOST_READY = 1000


class PoolSettingsError(ValueError):
    """Options that can't be used; the message names the variable."""


@dataclasses.dataclass(frozen=True, slots=True)
class PoolSettings:
    """What one provider's pool is to hold.

    :param min_ready: workers that wait for a job and have run none; those that are starting count.
    :param most: workers of the provider, whatever they do, at which the pool starts no other; None is its own bound.
    :param idle_timeout: seconds that a worker beyond `min_ready` may wait for a job.
    """

    min_ready: int
    most: int | None
    idle_timeout: float


def read_pools(
    environment: Mapping[str, str], names: Mapping[str, str], idle_timeout: float
) -> dict[str, PoolSettings]:
    """Read the pools of all providers.

    :param names: the providers' names and kinds.
    :param idle_timeout: where a pool names none.
    :raise PoolSettingsError: an option is unknown, can't be read, or is of no provider there is.
    """
    given: dict[str, dict[str, Any]] = {}
    by_variable = {name.upper(): name for name in names}
    for variable, text in environment.items():
        match = _OPTION.fullmatch(variable)
        if match is None:
            continue
        if match[1] not in by_variable:
            raise PoolSettingsError(f"{variable}: there is no provider {match[1].lower()!r}")
        if match[2] not in _READERS:
            known = ", ".join(f"POOL_{option}" for option in _READERS)
            raise PoolSettingsError(f"{variable}: there is no such option; known are: {known}")
        field, read = _READERS[match[2]]
        try:
            given.setdefault(by_variable[match[1]], {})[field] = read(text)
        except ValueError as error:
            raise PoolSettingsError(f"{variable}: {text!r} can't be used: {error}") from None
    pools = {}
    for name in names:
        pool = PoolSettings(**({"min_ready": 0, "most": None, "idle_timeout": idle_timeout} | given.get(name, {})))
        if pool.most is not None and pool.most < pool.min_ready:
            raise PoolSettingsError(f"HODEI_PROVIDER_{name.upper()}_POOL_MAX: it is at least POOL_MIN_READY")
        pools[name] = pool
    return pools


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


_READERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "MIN_READY": ("min_ready", _count(0)),
    "MAX": ("most", _count(1)),
    "IDLE_TIMEOUT": ("idle_timeout", _seconds),
}
