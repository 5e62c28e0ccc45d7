"""Settings of the server itself: where its data is, and its own log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from hodei_server.settings.values import Duration, SettingsGroup


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hodei"


class ServerGroup(SettingsGroup):
    """The server itself."""

    title: ClassVar[str] = "The server"

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Database, logs and workers' folders. Default: `$XDG_DATA_HOME/hodei` or `~/.local/share/hodei`.",
    )
    database_url: str = Field("", description="`postgresql://…`; SQLite under `data_dir` when empty.")
    database_queue: int = Field(
        10_000, ge=1, description="Writes that wait for the database, and reads; whoever has one more waits with it."
    )
    durability: Literal["power", "process"] = Field(
        "power", description="What an acknowledgement survives: a power cut (fsync), or the server's process."
    )
    log_level: Literal["error", "warn", "info", "debug"] = Field("info", description="Of the server's own log.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="JSON where no person reads it.")
    drain_timeout: Duration = Field(10.0, description="How long open calls may go on when the server ends.")

    @property
    def embedded_database(self) -> bool:
        """Whether the database is the server's own file."""
        return not self.database_url

    @property
    def resolved_database_url(self) -> str:
        """The database's address, SQLite under the data folder where none is given."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hodei.db'}"
