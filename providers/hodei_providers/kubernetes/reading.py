"""Reads settings from text; each reader raises ValueError with what was expected."""

from __future__ import annotations

import enum
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_QUANTITY = re.compile(r"\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i)?")


def boolean(text: str) -> bool:
    """Read true or false."""
    compact = text.strip().lower()
    if compact not in {"true", "false", "1", "0", "on", "off", "yes", "no"}:
        raise ValueError("expected true or false")
    return compact in {"true", "1", "on", "yes"}


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def number(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number") from None


def words(text: str) -> tuple[str, ...]:
    """Read a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def pairs(text: str) -> Mapping[str, str]:
    """Read `key=value,…`."""
    found = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not separator or not key.strip() for key, separator, _ in found):
        raise ValueError("expected key=value,key=value")
    return {key.strip(): value.strip() for key, _, value in found}


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


def one_of(kind: type[enum.StrEnum]) -> Callable[[str], enum.StrEnum]:
    """Return a reader of an enumeration's values, in any case."""

    def read(text: str) -> enum.StrEnum:
        for member in kind:
            if member.value.lower() == text.strip().lower():
                return member
        raise ValueError(f"expected one of {', '.join(member.value for member in kind)}")

    return read


def is_quantity(text: str) -> bool:
    """Whether Kubernetes reads a text as a quantity."""
    return _QUANTITY.fullmatch(text) is not None


def is_cidr(text: str) -> bool:
    """Whether a text is a network."""
    try:
        return "/" in text and bool(ipaddress.ip_network(text))
    except ValueError:
        return False
