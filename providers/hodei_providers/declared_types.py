"""Whether a configuration that was built in code has what its fields declare: nothing has read its values from text."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any


def mistyped(config: Any) -> Iterator[tuple[str, str]]:
    """Yield each field of a dataclass whose value is of another type than is declared, and what was expected.

    What is inside of tuples and mappings counts, too. A number may be whole where one with a fraction is expected;
    true and false are no numbers.
    """
    declared = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        expected = declared[field.name]
        if not _fits(getattr(config, field.name), expected):
            yield field.name, f"expected {_written(expected)}"


def _fits(value: object, expected: Any) -> bool:
    origin, inside = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(each, inside[0]) for each in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(
            _fits(key, inside[0]) and _fits(each, inside[1]) for key, each in value.items()
        )
    if expected in {int, float}:
        return isinstance(value, (int, expected)) and not isinstance(value, bool)
    return isinstance(value, expected)


def _written(expected: Any) -> str:
    """Return a type as code has it."""
    if typing.get_origin(expected) is None:
        return str(expected.__name__)
    return str(expected).replace("collections.abc.", "").replace("typing.", "")
