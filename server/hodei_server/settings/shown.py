"""Settings as they are shown to people."""

from __future__ import annotations

import re

from hodei_providers.config import known_configs, own_variable, shown_options
from hodei_server.settings.model import GROUPS, Settings
from hodei_server.settings.values import PREFIX, written


def show(settings: Settings) -> dict[str, str]:
    """Return every setting as it would be written, without secrets; those of the enabled providers too."""
    shown: dict[str, str] = {}
    for name, field in (each for group in GROUPS for each in group.model_fields.items()):
        value = getattr(settings, name)
        if name == "database_url":
            value = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value)
        shown[name] = written(field.metadata, value)
    kinds, configs = settings.provider_kinds, known_configs()
    shown["providers"] = ",".join(name if name == kind else f"{name}={kind}" for name, kind in kinds.items())
    for name, kind in kinds.items():
        given = settings.provider_config(name)
        alone = name == kind and list(kinds.values()).count(kind) == 1
        if kind in configs:
            options = list(shown_options(configs[kind], name, given, only_one=alone))
        else:
            options = [(own_variable(name, option), each.text) for option, each in given.items()]
        options += [(own_variable(name, option), each.text) for option, each in settings.server_options(name).items()]
        shown |= {variable.removeprefix(PREFIX).lower(): text for variable, text in options}
    return shown
