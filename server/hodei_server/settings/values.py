"""How values of settings are read and written, and the error that names those that can't be used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from hodei.quantities import format_duration, format_size, parse_duration, parse_size
from hodei_server.domain.fairness import ANYBODY

PREFIX = "HODEI_"
_TENANT = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")

T = TypeVar("T")


class SettingsError(ValueError):
    """Settings that can't be used; one line for each, naming the variable or the file's key."""


class SettingsGroup(BaseModel):
    """Settings of one subject.

    :cvar title: its heading in docs/configuration.md.
    :cvar page: what stands there below its table.
    """

    title: ClassVar[str]
    page: ClassVar[str] = ""


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _optional_path(value: object) -> object:
    return None if value == "" else value


Duration = Annotated[float, BeforeValidator(_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(_optional_path)]


def written(metadata: list[Any], value: Any) -> str:
    """Return a setting's value as one writes it.

    :param metadata: its field's.
    """
    readers = {entry.func for entry in metadata if isinstance(entry, BeforeValidator)}
    if value is None:
        return ""
    if _duration in readers:
        return format_duration(value)
    if _size in readers:
        return format_size(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def by_tenant(text: str, read: Callable[[str], T], *, anybody: bool = False) -> dict[str, T]:
    """Read `TENANT=VALUE,…`.

    :param anybody: whether ANYBODY may stand for every tenant that is not named.
    :raise ValueError: says which entry is wrong, and how.
    """
    found: dict[str, T] = {}
    for entry in filter(None, (each.strip() for each in text.split(","))):
        tenant, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not (_TENANT.fullmatch(tenant) or (anybody and tenant == ANYBODY)):
            raise ValueError(f"{entry!r} is no TENANT=VALUE{f' or {ANYBODY}=VALUE' if anybody else ''}")
        if tenant in found:
            raise ValueError(f"{entry!r} is the tenant's second one")
        try:
            found[tenant] = read(value)
        except ValueError as error:
            raise ValueError(f"{entry!r}: {error}") from None
    return found
