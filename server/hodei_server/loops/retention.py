"""What has had its time is removed by itself, little at a time (L22)."""

from __future__ import annotations

import asyncio

import structlog

from hodei_server.logs.retention import Retention

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds of rest after a turn that did not get to the end.
REST = 4.0


async def retention_loop(retention: Retention, interval: float) -> None:
    """Remove the logs of jobs whose time to live has passed since their recorded end (L21), and such jobs.

    A second of work is followed by some of rest, until nothing is left (L22). Nothing is removed by a clock that was
    moved.
    """
    pause = interval
    while True:
        await asyncio.sleep(pause)
        reason = await retention.paused()
        if reason:
            _log.error("retention.paused", reason=reason)
            pause = interval
            continue
        removed = await retention.run()
        pause = min(interval, REST) if removed.more else interval
