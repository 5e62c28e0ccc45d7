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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Column, ColumnElement, Connection, Engine, Executable, Insert, literal_column, or_, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError

from hodei.clock import elapsed_ns, steady_time_ns
from hodei_server.db.prepared import PreparedStatements
from hodei_server.instruments import DATABASE_COMMIT

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

#: Writes committed together, at most.
BATCH_LIMIT = 512
#: Writes waiting, at most, and reads; further ones wait for a place.
QUEUE_LIMIT = 10_000
READERS = 4
#: Seconds between tries of a write that must come sooner or later.
PERSIST_RETRY_SECONDS = 1.0
#: Microseconds that asking a database for its time may take.
MOMENT_MICROS = 1_000_000


class DatabaseUnavailableError(Exception):
    """The database can't be reached or written (a full disk, a lost connection): trying again later may help."""


class Transaction:
    """A connection inside a transaction, and the database's time in it.

    :param prepared: runs statements of the hot path, where it can.
    :param offset: from this machine's elapsed time to the database's clock, in microseconds; it is asked when None.
    """

    def __init__(
        self, connection: Connection, prepared: PreparedStatements | None = None, *, offset: int | None = None
    ) -> None:
        self.connection = connection
        self._prepared = prepared
        self._offset = offset
        self._now: int | None = None
        self._later: dict[Insert, list[dict[str, Any]]] = {}
        self._committed: list[Callable[[], None]] = []

    @property
    def now(self) -> int:
        """The database's clock, in microseconds since 1970-01-01 UTC; the same throughout a transaction.

        It is what that said when the `Database` was opened, carried on by this machine's elapsed time: no row is judged
        by a clock that is moved.
        """
        if self._now is None:
            if self._offset is None:
                self._now = database_time(self.connection)
            else:
                self._now = elapsed_ns() // 1000 + self._offset
        return self._now

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement."""
        if self._prepared is not None:
            rows: Any = self._prepared.run(statement, parameters or {})
            if rows is not None:
                return rows  # type: ignore[no-any-return]  # as much of a CursorResult as callers of these use
        return self.connection.execute(statement, parameters)

    def insert_later(self, statement: Insert, row: dict[str, Any]) -> None:
        """Insert a row before the transaction is committed, together with all others of the same statement.

        For rows that nothing in the same write reads. Statements are run in the order in which they first came.

        :param statement: one object for all of them, made once.
        """
        self._later.setdefault(statement, []).append(row)

    def once_committed(self, tell: Callable[[], None]) -> None:
        """Call something that doesn't raise once the transaction is committed, on the writer's thread."""
        self._committed.append(tell)

    def committed(self) -> None:
        """Tell those who wanted to know; called once, after the commit."""
        for tell in self._committed:
            tell()

    def flush(self) -> None:
        """Insert what was put off; called once, before the commit."""
        for statement, rows in self._later.items():
            self.execute(statement, rows)
        self._later.clear()


def one_of(column: Column[Any], states: Iterable[int]) -> ColumnElement[bool]:
    """Return the condition that a column has one of some constant values.

    `in_` would be taken apart and put together again with every execution of a statement.
    """
    return or_(*(column == literal_column(str(int(state))) for state in states))


def database_time(connection: Connection) -> int:
    """Return the database's clock in microseconds. SQLite has none: it gets this process's, which does not jump."""
    if connection.dialect.name == "sqlite":
        return steady_time_ns() // 1000
    return int(connection.scalar(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")) or 0)


def clock_offset(connection: Connection) -> int:
    """Return how far the database's clock is from this machine's elapsed time, in microseconds."""
    while True:
        before = elapsed_ns() // 1000
        now = database_time(connection)
        # Whoever was stopped in between has not learned much.
        if elapsed_ns() // 1000 - before <= MOMENT_MICROS:
            return now - before


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
    :ivar offset: from this machine's elapsed time to the database's clock as it was opened, in microseconds.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._places = asyncio.Semaphore(QUEUE_LIMIT)
        self._read_places = asyncio.Semaphore(QUEUE_LIMIT)
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
