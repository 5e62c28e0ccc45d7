"""Reads and judges what only Kubernetes' settings have; readers raise ValueError with what was expected."""

from __future__ import annotations

import enum
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

E = TypeVar("E", bound=enum.StrEnum)

_QUANTITY = re.compile(r"\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i)?")


def json_object(text: str) -> Mapping[str, Any]:
    """Read a JSON object."""
    value = _json(text)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - readers raise one kind of error
    return value


def objects(text: str) -> tuple[Mapping[str, Any], ...]:
    """Read a JSON list of objects."""
    value = _json(text)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("expected a JSON list of objects")
    return tuple(value)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected JSON: {error}") from None


def member_of(kind: type[E]) -> Callable[[str], E]:
    """Return a reader of an enumeration's values, in any case."""

    def read(text: str) -> E:
        for member in kind:
            if member.value.lower() == text.lower():
                return member
        raise ValueError(f"expected one of {', '.join(member.value for member in kind)}")

    return read


def is_quantity(text: str) -> bool:
    """Whether Kubernetes reads a text as a quantity."""
    return _QUANTITY.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """Whether a text is a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text
