"""How the database is driven: one writer thread that commits for all who wait, and a few readers.

A write is a plain function of a `Transaction`. Those that are waiting share one transaction and so one fsync; when one
of them fails, the batch is rolled back and each is run again in a transaction of its own, so that a failure stays its
own. A write must therefore have no effect but on the database.

Most of a statement's cost is building it. Those of the hot path are built once, with bound parameters, and kept: at
module level, or by a cached function of what they depend on.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from hodei_server.db.prepared import PreparedStatements
from hodei_server.db.transaction import Transaction, clock_offset
from hodei_server.instruments import DATABASE_COMMIT

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

#: Writes committed together, at most.
BATCH_LIMIT = 512
READERS = 4
#: Seconds between tries of a write that must come sooner or later.
PERSIST_RETRY_SECONDS = 1.0


class DatabaseUnavailableError(Exception):
    """The database can't be reached or written (a full disk, a lost connection): trying again later may help."""


class _Write:
    __slots__ = ("error", "function", "future", "result")

    def __init__(self, function: Callable[[Transaction], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell the waiter, on its loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """Runs writes and reads off the event loop. An asynchronous context manager.

    :param engine: made by `hodei_server.db.engine`.
    :param queue_limit: writes that wait, and reads; further ones wait for a place.
    :ivar offset: from this machine's elapsed time to the database's clock as it was opened, in microseconds.
    """

    def __init__(self, engine: Engine, *, queue_limit: int = 10_000) -> None:
        self.engine = engine
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._places = asyncio.Semaphore(queue_limit)
        self._read_places = asyncio.Semaphore(queue_limit)
        self._thread: threading.Thread | None = None
        self._writer: Connection | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.offset = 0

    async def __aenter__(self) -> Self:
        self.offset = await asyncio.to_thread(self._measure)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish what is waiting, then close every connection."""
        if self._thread is not None:
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        await asyncio.to_thread(self._readers.shutdown)
        self.engine.dispose()

    def _measure(self) -> int:
        try:
            with self.engine.connect() as connection:
                return clock_offset(connection)
        except DBAPIError as error:
            raise _translate(error) from error

    @property
    def waiting(self) -> int:
        """How many writes wait for their transaction."""
        return self._waiting.qsize()

    async def write(self, function: Callable[[Transaction], T]) -> T:
        """Run a write; return once it is committed, as durable as the settings say.

        :raise DatabaseUnavailableError: the database can't be written now; nothing is stored.
        :raise Exception: whatever else `function` raised; nothing is stored.
        """
        async with self._places:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._waiting.put(_Write(function, future))
            # A caller that is cancelled must not leave a write in doubt half-way: it is run all the same.
            return await asyncio.shield(future)

    async def persist(self, function: Callable[[Transaction], T]) -> T:
        """Run a write that must come sooner or later: a full disk or a lost database only delays it."""
        while True:
            try:
                return await self.write(function)
            except DatabaseUnavailableError as error:
                _log.warning("database.unavailable", error=str(error))
                await asyncio.sleep(PERSIST_RETRY_SECONDS)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        """Run a read in a transaction of its own."""

        def run() -> T:
            try:
                with self.engine.connect() as connection:
                    return function(Transaction(connection, offset=self.offset))
            except DBAPIError as error:
                raise _translate(error) from error

        async with self._read_places:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _run(self) -> None:
        """Be the writer thread."""
        loop = self._loop
        assert loop is not None  # noqa: S101 - set before the thread starts
        closing = False
        while not closing:
            batch: list[_Write] = []
            item = self._waiting.get()
            while True:
                if item is None:
                    closing = True
                    break
                batch.append(item)
                if len(batch) >= BATCH_LIMIT:
                    break
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)
                loop.call_soon_threadsafe(_settle_all, batch)
        if self._writer is not None:
            self._writer.close()

    def _commit(self, batch: list[_Write]) -> None:
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the write
            if len(batch) == 1:
                batch[0].error = _translate(error)
                return
            for write in batch:
                self._commit([write])

    def _transact(self, batch: list[_Write]) -> None:
        with DATABASE_COMMIT.time(), self._writing() as connection, connection.begin():
            sqlite = connection.dialect.name == "sqlite"
            prepared = PreparedStatements(connection) if sqlite else None
            transaction = Transaction(connection, prepared, offset=self.offset)
            for write in batch:
                write.result = write.function(transaction)
            transaction.flush()
        transaction.committed()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Take a connection to write by. On SQLite it stays the same one: it knows the pages that it has written."""
        connection = self._writer or self.engine.connect().execution_options(hodei_writer=True)
        self._writer = None
        try:
            yield connection
            if self.engine.dialect.name == "sqlite":
                self._writer = connection
        finally:
            if self._writer is None:
                connection.close()


def _translate(error: Exception) -> Exception:
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        return DatabaseUnavailableError(f"the database failed: {error.orig}")
    return error


def _settle_all(batch: list[_Write]) -> None:
    for write in batch:
        write.settle()
