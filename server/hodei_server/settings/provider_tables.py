"""Which providers there are, and what is given to each: by variables, and by tables of the configuration file."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hodei_providers.config import Given
from hodei_server.settings.values import SettingsError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE = re.compile(r"HODEI_PROVIDER_([A-Z0-9_]+)")
NAME_RULE = "a name is at most 63 lower-case letters, digits and dashes"


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderTable:
    """What the file says of one provider.

    :param options: by name, those of the pool included.
    """

    kind: str
    options: Mapping[str, Given]


def read_tables(providers: Mapping[str, Any]) -> dict[str, ProviderTable]:
    """Read the file's table `providers`.

    :raise SettingsError: a line for each name, key or value that can't be used.
    """
    found: dict[str, ProviderTable] = {}
    wrong: list[str] = []
    for name, table in providers.items():
        if not _NAME.fullmatch(name):
            wrong.append(f"providers.{name}: {NAME_RULE}")
            continue
        if not isinstance(table, dict):
            wrong.append(f"providers.{name}: {table!r} can't be used: write a table, [providers.{name}]")
            continue
        options: dict[str, Given] = {}
        for key, value in table.items():
            place = f"providers.{name}.{key}"
            try:
                if not _KEY.fullmatch(key):
                    raise ValueError("options are written in lower case")  # noqa: TRY301 - told with its place below
                options[key] = Given(place, _text(value))
            except ValueError as error:
                wrong.append(f"{place}: {value!r} can't be used: {error}")
        kind = options.pop("kind", Given("", name)).text
        found[name] = ProviderTable(kind, options)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return found


def _text(value: object) -> str:
    """Return what a variable would hold.

    :raise ValueError: it can't be written so.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        if any(isinstance(each, dict | list) for each in value):
            return _json(value)
        return ",".join(_part(each) for each in value)
    if isinstance(value, dict):
        if any(isinstance(each, dict | list) for each in value.values()):
            return _json(value)
        return ",".join(f"{_part(key, '=')}={_part(each)}" for key, each in value.items())
    raise ValueError("it is a text, a number, true or false, a list or a table")


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        raise ValueError("dates and times are written as texts") from None


def _part(value: object, more: str = "") -> str:
    text = _text(value)
    if set(text) & set("," + more):
        raise ValueError(f"{text!r} can't be one of several: it has a {', '.join(sorted(set(text) & set(',' + more)))}")
    return text


def named_kinds(text: str, tables: Mapping[str, ProviderTable]) -> dict[str, str]:
    """Read `HODEI_PROVIDERS`: the kind of each provider by its name, in order.

    :raise SettingsError: a name can't be used, or is there twice.
    """
    kinds: dict[str, str] = {}
    for entry in text.split(","):
        name, _, kind = (part.strip() for part in entry.partition("="))
        if not name and not kind:
            continue
        if not _NAME.fullmatch(name):
            raise SettingsError(f"HODEI_PROVIDERS: {name!r} can't be used: {NAME_RULE}")
        if name in kinds:
            raise SettingsError(f"HODEI_PROVIDERS: {name} is there twice")
        kinds[name] = kind or (tables[name].kind if name in tables else name)
    return kinds


def options_by_provider(
    environment: Mapping[str, str], names: Iterable[str], tables: Mapping[str, ProviderTable]
) -> tuple[dict[str, dict[str, Given]], list[str]]:
    """Return what is given to each provider alone, by option; a variable wins over the file.

    :return: with the variables that are of no provider there is.
    """
    found = {name: dict(tables[name].options) if name in tables else {} for name in names}
    # The longest name that fits: `HODEI_PROVIDER_EU_WEST_HOST` is of eu-west, if there is one, and not of eu.
    by_prefix = sorted(((name.upper().replace("-", "_") + "_", name) for name in found), key=lambda each: -len(each[0]))
    nobodys: list[str] = []
    for variable, text in environment.items():
        match = _VARIABLE.fullmatch(variable)
        if match is None or not text:  # an empty variable is none, as everywhere
            continue
        owner = next(((prefix, name) for prefix, name in by_prefix if match[1].startswith(prefix)), None)
        if owner is None or match[1] == owner[0]:
            nobodys.append(variable)
            continue
        prefix, name = owner
        found[name][match[1].removeprefix(prefix).lower()] = Given(variable, text)
    return found, nobodys
