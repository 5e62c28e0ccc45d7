"""Reads the settings, and names what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from hodei_providers.config import enabling_variable, known_configs, options_of
from hodei_server.settings.file import read_file
from hodei_server.settings.model import Settings
from hodei_server.settings.provider_tables import read_tables
from hodei_server.settings.values import PREFIX, SettingsError

#: Read by the client and the worker, not by the server.
_OTHERS = frozenset(["HODEI_SERVER", "HODEI_TENANT", "HODEI_CONFIG_FILE", "HODEI_TLS_CA", "HODEI_K8S_TEST"])
#: Read by the checkout's recipes: who exports them starts servers from the same terminal.
_RECIPES = frozenset(["HODEI_BUILD_IMAGE", "HODEI_K8S_IMPORT", "HODEI_KIND_IMAGE", "HODEI_ML_IMAGE", "HODEI_REGISTRY"])


def load_settings(overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    :param overrides: by name, as the command line gives them; they win.
    :raise SettingsError: a line for each that can't be used.
    """
    try:
        given: dict[str, Any] = dict(overrides or {})
        settings = Settings(**given)
        settings._tables = read_tables(read_file()[1])  # noqa: SLF001 - no setting of its own: no variable holds it
    except ValidationError as error:
        raise SettingsError("\n".join(_line(each) for each in error.errors())) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return settings


def _line(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    setting = str(error["loc"][0])
    name = f"{PREFIX}{setting.upper()}"
    if error["type"] == "extra_forbidden":  # of the file: other variables are not read
        near = difflib.get_close_matches(setting, [*Settings.model_fields, "providers"], 1)
        return f"HODEI_CONFIG_FILE: there is no setting {setting!r}{f'; did you mean {near[0]!r}?' if near else ''}"
    return f"{name}: {error['input']!r} can't be used: {message}"


def unknown_variables(environment: Mapping[str, str], nobodys: Iterable[str] = ()) -> list[str]:
    """Return the `HODEI_*` variables that nothing of Hodei reads: typing errors, most likely.

    :param nobodys: options of providers that there are not.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _OTHERS | _RECIPES
    for kind in known_configs().values():
        known |= {enabling_variable(kind), *(info.variable for info in options_of(kind))}
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX)
        and name not in known
        and not name.startswith("HODEI_TEST_")
        and not (name.startswith("HODEI_PROVIDER_") and name not in nobodys)
    )
