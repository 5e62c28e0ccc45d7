"""`hodei bundle` while it packs."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hodei_cli.bundle import Bundle
from hodei_client.logs import STDOUT, Chunk, LogPlace


class HeldTarget(io.BytesIO):
    """Holds what is written to it back, once it is to, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.go = threading.Event()
        self.writing = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, data: Any) -> int:
        """Write once that may be."""
        if self.holds:
            self._loop.call_soon_threadsafe(self.writing.set)
            assert self.go.wait(20), "nobody else came to do anything"
        return super().write(data)


class OneLog:
    """A client of which only a log can be had."""

    async def logs(self, *_: Any, **__: Any) -> AsyncIterator[Chunk]:
        """Yield more than is gathered before it is written."""
        for sequence in range(16):
            yield Chunk(1, sequence, 0, STDOUT, os.urandom(65536))


async def test_a_bundle_can_be_given_up_while_a_log_is_packed() -> None:
    """Ctrl-C is heeded meanwhile, and what packs comes to its end."""
    target = HeldTarget()
    client: Any = OneLog()
    with Bundle(target, "hodei-j1") as bundle:
        target.holds = True
        packing = asyncio.create_task(bundle._add_log(client, "j1", LogPlace(attempt=1), {STDOUT: "stdout.log"}))
        await target.writing.wait()
        packing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await packing
        target.go.set()
        await asyncio.get_running_loop().shutdown_default_executor()
