"""Databases that commit a transaction and lose the answer: the connection breaks in between, as at a failover."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from hodei_faults.proxy import PIECE, FaultyProxy
from hodei_server.db.database import Database


class LostAnswer:
    """Has the answer to one COMMIT be lost: that of the transaction in which a function was called.

    :param place: the module or the class that has the function.
    :param wanted: says of what it returns whether this is the transaction.
    :ivar lost: set once that was committed.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, wanted: Callable[[Any], object] = lambda _: True
    ) -> None:
        self.lost = asyncio.Event()
        loop, called = asyncio.get_running_loop(), False
        function, transact = getattr(place, name), Database._transact

        def noted(*arguments: Any, **named: Any) -> Any:
            nonlocal called
            result = function(*arguments, **named)
            called = called or bool(wanted(result))
            return result

        def committed_and_lost(database: Database, batch: Any) -> None:
            transact(database, batch)
            if called and not self.lost.is_set():
                monkeypatch.setattr(place, name, function)
                monkeypatch.setattr(Database, "_transact", transact)
                loop.call_soon_threadsafe(self.lost.set)
                raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

        monkeypatch.setattr(place, name, noted)
        monkeypatch.setattr(Database, "_transact", committed_and_lost)


class _Connection:
    committing = False


_CONNECTION: contextvars.ContextVar[_Connection] = contextvars.ContextVar("connection")


class AnswerLosingProxy(FaultyProxy):
    """Breaks one connection to PostgreSQL as the answer comes to the COMMIT of a transaction that gives a job out.

    :ivar lost: set once it has.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.lost = asyncio.Event()

    def _greet(self, writer: asyncio.StreamWriter) -> None:  # noqa: ARG002 - as it is called
        _CONNECTION.set(_Connection())

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool) -> None:
        connection, giving = _CONNECTION.get(), False
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if slowly and connection.committing:
                    self.lost.set()
                    return
                if not slowly and not self.lost.is_set():
                    giving = giving or b"INSERT INTO attempts" in data
                    connection.committing = giving and b"COMMIT" in data
                writer.write(data)
                await writer.drain()
