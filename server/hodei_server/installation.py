"""Which database and which data folder belong together, and whether the database is the copy that was last in use.

Both keep the installation's id. Both also keep a generation, a random token that changes every minute and at each
start: the folder remembers two, written before the database's. So a database whose generation the folder does not know
is another copy, most likely an older one that was restored.
"""

from __future__ import annotations

import asyncio
import secrets

import structlog
from sqlalchemy import Engine, insert, inspect, select, update

from hodei_server.data_folder import DataFolder, DataFolderError
from hodei_server.db.database import Database
from hodei_server.db.jobs import note_unfinished
from hodei_server.db.schema import installation
from hodei_server.db.transaction import Transaction

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

RESTORED = (
    "The database was replaced by an older copy: what was done since is not known, and this job may have run before"
)


class InstallationMismatchError(DataFolderError):
    """Database and data folder belong to different installations."""


class Installation:
    """Who this server is.

    :param server_id: this server's, written beside its logs.
    :param restored: whether the database is not the copy that was last used with the data folder.
    """

    def __init__(self, installation_id: str, folder: DataFolder, database: Database, *, restored: bool) -> None:
        self.installation_id = installation_id
        self.server_id = installation_id[:16]
        self.restored = restored
        self._folder = folder
        self._database = database

    async def next_generation(self) -> None:
        """Tell this copy of the database from all that were made before now."""
        generation = secrets.token_hex(16)
        # Synced to the disk, for which the event loop waits as little as for the database.
        await asyncio.to_thread(self._folder.write_generation, generation)
        await self._database.write(lambda tx: tx.execute(update(installation).values(generation=generation)))


async def identify(database: Database, folder: DataFolder) -> Installation:
    """Return who this server is; unfinished jobs of a restored database are told so.

    :raise InstallationMismatchError: the two differ; nothing is touched.
    """

    def read_or_make(tx: Transaction) -> tuple[str, str]:
        row = tx.execute(select(installation.c.installation_id, installation.c.generation)).one_or_none()
        if row is not None:
            return row.installation_id, row.generation
        made = secrets.token_hex(16)
        tx.execute(insert(installation), {"installation_id": made, "created_at": tx.now, "generation": ""})
        return made, ""

    found, generation = await database.write(read_or_make)
    kept = folder.read_installation()
    if kept and kept != found:
        raise InstallationMismatchError(
            f"the data folder {folder.path} belongs to installation {kept}, the database to {found}: "
            "use the database that belongs to the folder, or another folder (HODEI_DATA_DIR)"
        )
    if not kept:
        folder.write_installation(found)
    known = folder.read_generations()
    restored = bool(known) and generation not in known
    if restored:
        jobs = await database.write(lambda tx: note_unfinished(tx, RESTORED))
        _log.warning("database.restored", message="the database is not the copy that was last in use", unfinished=jobs)
    this = Installation(found, folder, database, restored=restored)
    await this.next_generation()
    return this


def known_installation(engine: Engine) -> str:
    """Return the id of the installation whose database this is; empty where no server was ever started with it."""
    if not inspect(engine).has_table(installation.name):
        return ""
    with engine.connect() as connection:
        return connection.execute(select(installation.c.installation_id)).scalar() or ""
