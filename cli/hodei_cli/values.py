"""Values of options as people write them: quantities, and KEY=VALUE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hodei.quantities import parse_cpu, parse_duration, parse_size


class Quantity(click.ParamType[Any]):
    """An option that is read by one of `hodei.quantities`."""

    def __init__(self, name: str, reader: Callable[[str], Any]) -> None:
        self.name = name
        self._reader = reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a value."""
        if not isinstance(value, str):
            return value
        try:
            return self._reader(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Quantity("duration", parse_duration)
SIZE = Quantity("size", parse_size)
CPU = Quantity("cpu", parse_cpu)


class Pair(click.ParamType[tuple[str, str]]):
    """An option of the form KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, separator, rest = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is not of the form KEY=VALUE", param, ctx)
        return key, rest


PAIR = Pair()
