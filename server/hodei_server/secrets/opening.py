"""Opens what the secrets of jobs need, at the server's start."""

from __future__ import annotations

import os

import structlog

from hodei_server.db.database import Database
from hodei_server.db.secrets import kept_under_others
from hodei_server.secrets.jobs import JobSecrets
from hodei_server.secrets.keys import read_keys
from hodei_server.secrets.sources import ServerSources
from hodei_server.settings import Settings, SettingsError

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def open_secrets(settings: Settings, database: Database) -> JobSecrets:
    """Return the secrets of jobs.

    :raise SettingsError: the file of keys can't be used, or values are kept under a key that it does not hold.
    """
    keys = read_keys(settings.secrets_key_file) if settings.secrets_key_file is not None else None
    lost = await database.read(lambda tx: kept_under_others(tx, keys.key_ids if keys is not None else []))
    if lost and settings.secrets_lost_key == "refuse":
        raise SettingsError(
            f"HODEI_SECRETS_KEY_FILE: the secrets of {lost} unfinished jobs are kept under a key it does not hold: "
            "add that key as a further line; where it is lost, HODEI_SECRETS_LOST_KEY=fail lets these jobs fail"
        )
    if lost:
        _log.error("secrets.lost_key", jobs=lost)
    sources = ServerSources(os.environ, settings.secrets_variables, settings.secrets_folder)
    return JobSecrets(database, keys, sources)
