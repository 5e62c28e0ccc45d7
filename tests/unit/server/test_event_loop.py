"""What takes long is done beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from hodei_server.db.database import Database
from hodei_server.db.engine import open_engine
from hodei_server.installation import Installation


async def test_a_generation_is_synced_to_the_disk_beside_the_event_loop() -> None:
    """A busy disk takes its time for it, every minute, and nobody is to wait for that."""
    threads: list[int] = []
    folder: Any = SimpleNamespace(write_generation=lambda _generation: threads.append(threading.get_ident()))
    database: Any = SimpleNamespace(write=AsyncMock())
    await Installation("one", folder, database, restored=False).next_generation()
    assert threads
    assert threading.get_ident() not in threads
    database.write.assert_awaited_once()


async def test_a_database_that_is_closed_waits_for_its_reads_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that is still under way may need the loop that it is asked from."""
    loop, ends = asyncio.get_running_loop(), threading.Event()
    async with Database(open_engine(f"sqlite:///{tmp_path}/a.db")) as database:
        shutdown = database._readers.shutdown

        def let_the_read_end() -> None:
            loop.call_soon_threadsafe(ends.set)
            shutdown()

        monkeypatch.setattr(database._readers, "shutdown", let_the_read_end)
        begun = asyncio.Event()

        def read(_tx: object) -> bool:
            loop.call_soon_threadsafe(begun.set)
            return ends.wait(60)

        reading = asyncio.create_task(database.read(read))
        await begun.wait()
    assert await reading
