"""What runs beside everything else: tasks that nobody waits for, kept until they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Background:
    """Keeps tasks; the failure of one is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        """Run something; its failure is logged, and what it left open is found by the sweep."""
        self.keep(asyncio.create_task(coroutine, name=name))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that runs."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("task.failed", task=task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """Give what runs a second, then cancel it."""
        deadline = time.monotonic() + 1.0
        while self._tasks and time.monotonic() < deadline:
            await asyncio.wait(self._tasks, timeout=deadline - time.monotonic())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
