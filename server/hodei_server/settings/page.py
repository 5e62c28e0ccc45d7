"""docs/configuration.md, made from the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hodei_providers.config import enabling_variable, known_configs, options_of
from hodei_server.settings.model import GROUPS
from hodei_server.settings.values import PREFIX, written


def markdown() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "The server reads these variables once, at its start. The same names in lower case and without the prefix may",
        "stand in a TOML file that `HODEI_CONFIG_FILE` names; a variable wins over the file, an option of the command",
        "line over both. An empty variable is none. `hodei config show` prints what is in force, as variables.",
        "Durations are written `90s`, `5m`, `1h30m`, sizes `64Mi`, `2Gi`.",
        "",
        "Clients and the command line read `HODEI_SERVER`, `HODEI_TLS_CA`, `HODEI_TLS_CERT`, `HODEI_TLS_KEY`,",
        "`HODEI_ALLOW_PLAINTEXT` and `HODEI_TENANT`. Workers are configured by their provider; see",
        "[the worker's protocol](worker-protocol.md).",
        "",
    ]
    for group in GROUPS:
        rows = []
        for name, field in group.model_fields.items():
            default = "" if field.default_factory is not None else written(field.metadata, field.default)
            rows.append((f"{PREFIX}{name.upper()}", default, field.description or ""))
        lines += [f"## {group.title}", "", *_table(rows), "", *group.page.splitlines()]
        lines += [""] if group.page else []
    for kind, config in known_configs().items():
        lines += [
            f"## {kind}",
            "",
            f"`{enabling_variable(config)}=true` adds a provider named `{kind}`. These variables are for every",
            "provider of the kind; see [providers](#providers) for options of one.",
            "",
            *_table((info.variable, info.default, info.description) for info in options_of(config)),
            "",
        ]
    return "\n".join(lines)


def _table(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Yield a table of variables, their defaults and what they mean."""
    yield from ("| variable | default | meaning |", "|---|---|---|")
    for variable, default, meaning in rows:
        yield f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |"
