"""One server per database: it holds a lock of PostgreSQL's, or one of a file beside SQLite's.

Two servers on one database would take each other's jobs for lost. A data folder is locked as well, but another server
may have another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from hodei_server.db.database import DatabaseUnavailableError
from hodei_server.file_lock import FileHeldError, lock_file

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

#: Seconds after which PostgreSQL ends the session of a machine that is gone without a word, and so frees its lock.
GONE_SECONDS = 25
#: Seconds for which a server that starts waits for the lock: one that was killed with its machine has lost it by then.
WAIT_SECONDS = 45.0
RETRY_SECONDS = 0.2
#: The lock's name among PostgreSQL's, which are of one database each: two numbers, as `pg_locks` shows them.
_KEY = {"first": int.from_bytes(b"hode"), "second": int.from_bytes(b"i\0\0\0")}
_TRY = text("SELECT pg_try_advisory_lock(:first, :second)")
_HOLDER = text(
    "SELECT pid, application_name, host(client_addr) AS address FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND classid = :first AND objid = :second AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_TERMINATE = text("SELECT pg_terminate_backend(:pid)")
#: Not every version has all of them.
_SET = text("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name")
_SESSION = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{GONE_SECONDS}s",
    "idle_session_timeout": "0",
}


class DatabaseHeldError(Exception):
    """Another server uses the database; the message says which, and what to do."""


class AskedToEndError(Exception):
    """This server was asked to end while it waited for another one's end."""


class DatabaseLock:
    """Keeps other servers from a database for as long as it is entered. An asynchronous context manager.

    :param engine: of the database.
    :param wait: seconds to wait for another server's end, on PostgreSQL; a restart may overlap its predecessor.
    :param ending: set when this server is to end: it waits no longer then.
    """

    def __init__(self, engine: Engine, *, wait: float | None = None, ending: asyncio.Event | None = None) -> None:
        self._engine = engine
        self._ending = ending or asyncio.Event()
        self._wait = WAIT_SECONDS if wait is None else wait
        #: What its sessions are called in PostgreSQL, which takes 63 characters of that.
        self._mark = f"hodei-server {secrets.token_hex(4)}"
        self._name = f"{self._mark}, process {os.getpid()} on {socket.gethostname()}"[:63]
        self._under_way: asyncio.Future[Any] | None = None
        self._file: int | None = None
        self._connection: Connection | None = None
        self._held = False

    async def __aenter__(self) -> Self:
        """Take the lock.

        :raise DatabaseHeldError: another server has it, and still has after the wait.
        :raise AskedToEndError: another server has it, and this one is to end.
        :raise DatabaseUnavailableError: the database can't be asked, or the file can't be made.
        """
        try:
            if self._engine.dialect.name == "sqlite":
                self._take_file()
            else:
                await self._take_session()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let another server have it."""
        await self._close()

    async def check(self) -> None:
        """See whether the lock is still held, and take it again where its connection was lost.

        :raise DatabaseHeldError: another server has taken it meanwhile: this one must end.
        :raise DatabaseUnavailableError: the database can't be asked now.
        """
        if self._file is not None or self._engine.dialect.name == "sqlite" or await self._run(self._still_held):
            return
        holder = await self._run(self._try)
        if self._held:
            _log.warning("database.lock_taken_again")
        elif holder:
            raise DatabaseHeldError(
                f"{holder} has taken the database that HODEI_DATABASE_URL names while this one had lost it: "
                "this one ends"
            )

    def _take_file(self) -> None:
        name = self._engine.url.database
        if not name or name == ":memory:" or name.startswith("file:"):
            return
        # Beside it: SQLite loses its own locks when its file is closed by anybody else in this process.
        path = Path(f"{Path(name).resolve()}.lock")
        try:
            self._file = lock_file(path)
        except OSError as error:
            raise DatabaseUnavailableError(f"the database's lock {path} can't be made: {error.strerror}") from None
        except FileHeldError as error:
            raise DatabaseHeldError(_refusal(f"another server (process {error})")) from None

    async def _take_session(self) -> None:
        deadline, told = time.monotonic() + self._wait, False
        while not self._held:
            holder = await self._run(self._try)
            if self._held:
                return
            if time.monotonic() >= deadline:
                # Behind a pooler its session may be there for as long as that one does not miss the machine.
                gone = "where its machine is gone, pg_terminate_backend ends that session"
                raise DatabaseHeldError(f"{_refusal(holder or 'another server')}; {gone}")
            if holder and not told:
                told = True
                _log.warning("database.held", message=f"{holder} uses the database", waiting_seconds=self._wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), RETRY_SECONDS)
                raise AskedToEndError

    async def _run(self, do: Callable[[], T]) -> T:
        """Ask the database; one thing after the other, also where whoever waited is gone."""
        await self._idle()
        asked = self._under_way = asyncio.ensure_future(asyncio.to_thread(do))
        try:
            return await asyncio.shield(asked)
        except (DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
            raise DatabaseUnavailableError(f"the database failed: {getattr(error, 'orig', error)}") from error

    async def _idle(self) -> None:
        if self._under_way is not None:
            await asyncio.wait({self._under_way})

    def _try(self) -> str:
        """Try to take the lock; return who has it, and nothing where nobody else has."""
        try:
            if self._connection is None:
                self._connection = self._open()
            self._held = bool(self._connection.scalar(_TRY, _KEY))
            if self._held:
                return ""
            row = self._connection.execute(_HOLDER, _KEY).one_or_none()
            if row is None:
                return ""
            if (row.application_name or "").startswith(self._mark):
                # This server's own session from before: PostgreSQL does not know yet that its connection is lost.
                self._connection.execute(_TERMINATE, {"pid": row.pid})
                return ""
        except DBAPIError:
            self._drop()
            raise
        else:
            place = f"session {row.pid}" + (f" from {row.address}" if row.address else "")
            return f"another server ({row.application_name or 'of another user'}; PostgreSQL's {place})"

    def _still_held(self) -> bool:
        if self._held and self._connection is not None:
            try:
                self._connection.scalar(text("SELECT 1"))
            except DBAPIError as error:
                _log.warning("database.lock_lost", error=str(error.orig))
                self._drop()
        return self._held

    def _open(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            # It is none of the pool's any more: nobody else is given it, and the pool has its places.
            connection.detach()
            for name, value in {**_SESSION, "application_name": self._name}.items():
                connection.execute(_SET, {"name": name, "value": value})
            driver: Any = connection.connection.dbapi_connection
            with contextlib.closing(socket.socket(fileno=os.dup(driver.fileno()))) as sock:
                if sock.family != socket.AF_UNIX:
                    # What is asked of a database that is gone without a word is answered as late.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_SECONDS * 1000)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        self._held = False
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()

    async def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        await self._idle()
        await asyncio.to_thread(self._drop)


def _refusal(holder: str) -> str:
    return f"{holder} uses the database that HODEI_DATABASE_URL names: end it, or give this one a database of its own"
