"""Settings of jobs' secrets: the key that their values are kept under, and what of the server's own jobs may have."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from hodei_server.settings.values import PREFIX, OptionalPath, SettingsGroup

_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


class SecretsGroup(SettingsGroup):
    """Jobs' secrets."""

    title: ClassVar[str] = "Jobs' secrets"
    page: ClassVar[str] = "[Secrets](secrets.md) tells how they are used and what is promised of them."

    secrets_key_file: OptionalPath = Field(
        None,
        description="Values that come with jobs are kept encrypted under its first key, and refused without it; a line "
        "of base64 for each, of 32 bytes (`openssl rand -base64 32`). The others decrypt what was kept before.",
    )
    secrets_lost_key: Literal["refuse", "fail"] = Field(
        "refuse",
        description="Where values were kept under a key that the file does not hold: no start, or the jobs fail.",
    )
    secrets_env: str = Field(
        "",
        description="The server's variables that jobs may have as secrets, a list; `TEAM_*` is all that begin with "
        f"`TEAM_`. Never those that begin with `{PREFIX}`.",
    )
    secrets_folder: OptionalPath = Field(None, description="Files below it are what jobs may have as secrets.")

    @field_validator("secrets_env")
    @classmethod
    def _check_patterns(cls, value: str) -> str:
        for pattern in _listed(value):
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(f"{pattern!r} is no variable, and no beginning of some followed by *")
            if pattern.startswith(PREFIX):
                raise ValueError(f"{pattern!r}: variables of the server itself are given to nobody")
        return value

    @property
    def secrets_variables(self) -> tuple[str, ...]:
        """The names and beginnings that `secrets_env` lists."""
        return tuple(_listed(self.secrets_env))


def _listed(text: str) -> list[str]:
    return [each for each in (entry.strip() for entry in text.split(",")) if each]
