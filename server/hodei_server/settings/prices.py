"""What placement goes by of each provider: its prices, and the annotations it is compared by.

Options of a provider:

price_worker_hour     of a worker, whatever it is given; default: the provider's own cost_per_hour
price_cpu_hour        of a processor
price_gib_hour        of a GiB of memory
price_gpu_hour        of a GPU
placing_annotations   keys under which a job's annotations are compared with its labels

A price is a number, and more may follow for jobs with a label: ``0.04,node=spot:0.012``; ``gpu-type=a100:2.5`` is for
jobs that ask for that type.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from hodei_providers.config import Given
from hodei_server.domain.prices import Prices, Rate
from hodei_server.settings.values import SettingsError


@dataclasses.dataclass(frozen=True, slots=True)
class PlacingSettings:
    """What is set of one provider.

    :param worker_hour: None is the provider's own.
    """

    worker_hour: Rate | None = None
    cpu_hour: Rate = dataclasses.field(default_factory=Rate)
    gib_hour: Rate = dataclasses.field(default_factory=Rate)
    gpu_hour: Rate = dataclasses.field(default_factory=Rate)
    annotations: tuple[str, ...] = ()

    def prices(self, cost_per_hour: float) -> Prices:
        """Return the provider's prices.

        :param cost_per_hour: of a worker, by the provider's own word.
        """
        worker = Rate(cost_per_hour) if self.worker_hour is None else self.worker_hour
        return Prices(worker, self.cpu_hour, self.gib_hour, self.gpu_hour)


def read_rate(text: str) -> Rate:
    """Read a price, and those for jobs with labels."""
    amount, where = 0.0, {}
    for number, entry in enumerate(text.split(",")):
        label, colon, price = entry.strip().rpartition(":")
        if not colon and number == 0:
            amount = _amount(price)
            continue
        key, equals, value = label.partition("=")
        if not colon or not equals or not key or not value:
            raise ValueError("it is a number, and KEY=VALUE:NUMBER for jobs with a label, separated by commas")
        where[key.strip(), value.strip()] = _amount(price)
    return Rate(amount, where)


def _amount(text: str) -> float:
    amount = float(text)
    if not math.isfinite(amount) or amount < 0:
        raise ValueError("a price is not negative")
    return amount


def _keys(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(",") if key.strip())


_READERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "price_worker_hour": ("worker_hour", read_rate),
    "price_cpu_hour": ("cpu_hour", read_rate),
    "price_gib_hour": ("gib_hour", read_rate),
    "price_gpu_hour": ("gpu_hour", read_rate),
    "placing_annotations": ("annotations", _keys),
}


def is_placing_option(option: str) -> bool:
    """Whether an option, in lower case, is one of placing: no provider sees it."""
    return option.startswith(("price_", "placing_"))


def read_placing(given: Mapping[str, Mapping[str, Given]]) -> dict[str, PlacingSettings]:
    """Read what is set of all providers.

    :param given: of each provider by its name, by option.
    :raise SettingsError: an option is unknown or can't be read.
    """
    return {name: _of_provider(options) for name, options in given.items()}


def _of_provider(options: Mapping[str, Given]) -> PlacingSettings:
    values: dict[str, Any] = {}
    for option, each in options.items():
        if option not in _READERS:
            raise SettingsError(f"{each.variable}: there is no such option; known are: {', '.join(_READERS)}")
        field, read = _READERS[option]
        try:
            values[field] = read(each.text)
        except ValueError as error:
            raise SettingsError(f"{each.variable}: {each.text!r} can't be used: {error}") from None
    return PlacingSettings(**values)
