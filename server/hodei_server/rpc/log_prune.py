"""Removing what has expired, for an operator who does not wait for retention; or telling what would go."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from hodei.v1 import log_pb2 as wire
from hodei_server.domain.errors import PreconditionError
from hodei_server.logs.expiring import Preview
from hodei_server.logs.retention import Removed, Retention
from hodei_server.rpc.context import current_principal

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def prune_logs(retention: Retention, request: wire.PruneLogsRequest) -> AsyncIterator[wire.PruneLogsResponse]:
    """Yield what would go, or remove it and yield what has gone so far, until nothing is left that may go now.

    :raise PreconditionError: nothing may be removed now.
    """
    if request.dry_run:
        yield wire.PruneLogsResponse(expired=_summary(await retention.preview()))
        return
    reason = await retention.paused()
    if reason:
        raise PreconditionError(f"nothing is removed now: {reason}")
    _log.info("retention.asked", principal=current_principal())
    total = wire.RemovedLogs()
    while not total.done:
        _add(total, await retention.run())
        yield wire.PruneLogsResponse(removed=total)


def _add(total: wire.RemovedLogs, removed: Removed) -> None:
    total.jobs_with_logs += removed.logs
    total.segments += removed.segments
    total.disk_bytes += removed.disk_bytes
    total.s3_bytes += removed.s3_bytes
    total.jobs += removed.jobs
    total.s3_error = removed.s3_error
    total.done = not removed.more


def _summary(preview: Preview) -> wire.ExpiredSummary:
    summary = wire.ExpiredSummary(jobs=preview.jobs)
    for group in preview.groups:
        message = summary.groups.add(
            tenant=group.tenant,
            jobs=group.jobs,
            logs=group.logs,
            segments=group.segments,
            disk_bytes=group.disk_bytes,
            s3_bytes=group.s3_bytes,
        )
        if group.day is not None:
            message.day.FromJsonString(f"{group.day.isoformat()}T00:00:00Z")
    return summary
