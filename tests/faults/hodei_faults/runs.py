"""The account of what runs, kept outside of what is tested: each run holds a connection for as long as it lives."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from hodei_faults.cluster import PATIENCE

#: What a held job says between its first and its last line.
LINES = "".join(f"{number}\n" for number in range(1, 1001))
_SCRIPT = (
    'exec 3<>"/dev/tcp/$0/$1"; echo "runs $HODEI_ATTEMPT"; echo "$HODEI_JOB_ID $HODEI_ATTEMPT" >&3; '
    'read -r <&3 || exit 3; seq 1000; echo "ends $HODEI_ATTEMPT"'
)


class Runs:
    """Hears of each run of a job when it begins, and of its end, however it comes to that; lets it go on when told.

    :ivar begun: the attempts of each job that have run, in their order.
    :ivar alive: those that run now.
    :ivar twice: jobs of which two attempts have run at once.
    :ivar moments: the jobs that ran, after each run's begin and end.
    """

    def __init__(self, host: str, port: int) -> None:
        self.begun: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
        self.alive: collections.defaultdict[str, set[int]] = collections.defaultdict(set)
        self.twice: set[str] = set()
        self.moments: list[frozenset[str]] = []
        #: The command of a job that is held until it is let go on.
        self.held = ["bash", "-c", _SCRIPT, host, str(port)]
        self._may_go_on: Callable[[str], bool] = lambda _job: False
        self._changed = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def listening(cls, host: str) -> AsyncIterator[Self]:
        """Hear runs at an address of this machine that they all reach."""
        writers: set[asyncio.StreamWriter] = set()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            with contextlib.suppress(OSError):
                await runs._take(reader, writer)
            writer.close()
            writers.discard(writer)

        server = await asyncio.start_server(take, host, 0)
        runs = cls(host, server.sockets[0].getsockname()[1])
        try:
            yield runs
        finally:
            server.close()
            for writer in writers:
                writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job, number = (await reader.readline()).decode().split()
        attempt = int(number)
        async with self._moving():
            if self.alive[job]:
                self.twice.add(job)
            self.begun[job].append(attempt)
            self.alive[job].add(attempt)
        told = asyncio.create_task(self._tell(job, writer))
        try:
            # It ends with its process.
            await reader.read()
        finally:
            told.cancel()
            async with self._moving():
                self.alive[job].discard(attempt)

    @contextlib.asynccontextmanager
    async def _moving(self) -> AsyncIterator[None]:
        async with self._changed:
            yield
            self.moments.append(frozenset(job for job, attempts in self.alive.items() if attempts))
            self._changed.notify_all()

    async def _tell(self, job: str, writer: asyncio.StreamWriter) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._may_go_on(job))
        writer.write(b"go on\n")

    async def let_go(self, which: Callable[[str], bool] = lambda _job: True) -> None:
        """Let jobs go on from now on.

        :param which: says it of a job; all others are held.
        """
        async with self._changed:
            self._may_go_on = which
            self._changed.notify_all()

    async def until(self, so: Callable[[], object]) -> None:
        """Wait for something to be so of these."""
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(lambda: bool(so()))
        except TimeoutError:
            raise AssertionError(f"it never was so; runs: {dict(self.begun)}, now: {dict(self.alive)}") from None
