"""The configuration file that HODEI_CONFIG_FILE names."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from hodei_server.settings.values import SettingsError


def read_file() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the file that HODEI_CONFIG_FILE names, and its tables of providers.

    :raise SettingsError: it can't be read.
    """
    file = os.environ.get("HODEI_CONFIG_FILE")
    if not file:
        return {}, {}
    try:
        settings = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"HODEI_CONFIG_FILE: there is no file {file}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"HODEI_CONFIG_FILE: {file} can't be read: {error}") from None
    tables = settings.pop("providers") if isinstance(settings.get("providers"), dict) else {}
    return settings, tables
