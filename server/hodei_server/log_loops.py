"""What goes on with logs while the server runs: sealed, archived, expired, swept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hodei_logstore.file import FileLogStore
from hodei_server.db.database import Database
from hodei_server.installation import Installation
from hodei_server.logs.book import LogBook
from hodei_server.logs.retention import Retention
from hodei_server.loops.leftovers import Leftovers, leftover_loop
from hodei_server.loops.retention import retention_loop
from hodei_server.loops.runner import LoopRunner
from hodei_server.loops.sealing import sealing_loop
from hodei_server.rpc.listener import Listener
from hodei_server.settings import Settings

if TYPE_CHECKING:
    from hodei_logstore.s3 import S3LogStore  # needs the extra "s3"


async def run_log_loops(
    loops: LoopRunner,
    settings: Settings,
    database: Database,
    installation: Installation,
    *,
    book: LogBook,
    retention: Retention,
    disk: FileLogStore,
    archive: S3LogStore | None,
    listeners: Sequence[Listener],
) -> None:
    """Start the loops.

    :param disk: the store of the local disk.
    :param archive: the store of disk and bucket, where there is a bucket.
    :param listeners: that tell clients how the archive is.
    """
    server_id, installation_id = installation.server_id, installation.installation_id
    loops.run("sealing", lambda: sealing_loop(book.store, database, server_id, archived=archive is not None))
    loops.run("retention", lambda: retention_loop(retention, settings.retention_interval))
    leftovers = Leftovers(disk, database, installation_id, settings.log_orphan_grace)
    loops.run("leftovers", lambda: leftover_loop(leftovers, settings.log_orphan_grace))
    if archive is None:
        return
    from hodei_server.loops import archive as archiving  # noqa: PLC0415 - needs the extra "s3"
    from hodei_server.loops import sweep as sweeping  # noqa: PLC0415 - the same

    async def tell(works: bool) -> None:  # noqa: FBT001 - the shape of what is told
        for listener in listeners:
            await listener.set_health(archiving.HEALTH_SERVICE, serving=works)

    health = archiving.ArchiveHealth(tell)
    await tell(True)  # noqa: FBT003 - the same
    archiver = archiving.Archiver(archive, database, server_id)
    loops.run("archive", lambda: archiving.archive_loop(archiver, health))
    sweep = sweeping.Sweep(archive, database, installation_id, grace=settings.s3_orphan_grace)
    loops.run("sweep", lambda: sweeping.sweep_loop(sweep, settings.s3_orphan_grace))
    loops.run("rolling", lambda: archiving.rolling_loop(book, settings.log_segment_age))
