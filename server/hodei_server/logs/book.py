"""All logs of a server: those being written, and the way from an attempt to its segments."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import structlog

from hodei_logstore.contract import LogStore, LogStoreError, SegmentKey, SegmentNotFoundError
from hodei_server.db.database import Database
from hodei_server.db.segments import (
    Segment,
    SegmentState,
    close_segment,
    insert_segment,
    mark_segments,
    segments_of,
)
from hodei_server.db.transaction import Transaction
from hodei_server.logs.figures import Figures, add_figures, figures_of, figures_of_info
from hodei_server.logs.memory import LogMemory
from hodei_server.logs.open_log import OpenLog

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: Seconds that logs are given to become durable when the server ends.
CLOSE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class LogSettings:
    """Bounds of logs, in bytes.

    :param segment_bytes: where a segment ends and the next begins.
    :param pending_bytes: of each log, what may wait to be durable.
    :param recent_bytes: of each log being written, what is kept in memory for those who follow live.
    :param memory_bytes: both, of all logs together.
    """

    segment_bytes: int
    pending_bytes: int = 16 << 20
    recent_bytes: int = 2 << 20
    memory_bytes: int = 256 << 20


class LogBook:
    """Opens, ends and finds logs.

    :param owner: this server's id, as written beside each segment.
    :param disk: the store of what is written here; `store` itself unless that is elsewhere, too.
    :param restored: the database may not know all that was written: the whole store is asked, and not the disk only.
    """

    def __init__(
        self,
        store: LogStore,
        database: Database,
        owner: str,
        settings: LogSettings,
        *,
        disk: LogStore | None = None,
        restored: bool = False,
    ) -> None:
        self.store = store
        self._disk = disk or store
        self._written = store if restored else self._disk
        self._database = database
        self._owner = owner
        self._settings = settings
        self._memory = LogMemory(settings.memory_bytes)
        self._open: dict[str, OpenLog] = {}
        self._budgets: dict[str, int] = {}
        self._segments: dict[str, list[Segment]] = {}

    @property
    def held_bytes(self) -> int:
        """How many bytes of blocks the logs being written hold in memory."""
        return self._memory.held

    def __len__(self) -> int:
        """How many logs are being written."""
        return len(self._open)

    def get(self, attempt_uid: str) -> OpenLog | None:
        """Return a log that is being written."""
        return self._open.get(attempt_uid)

    def open_new(self, attempt_uid: str, *, epoch: int, budget: int) -> OpenLog:
        """Open the log of a new attempt, whose first segment's row is committed."""
        return self._open_log(attempt_uid, epoch, budget, [], Figures(0, 0))

    async def reopen(self, attempt_uid: str, *, epoch: int, budget: int) -> OpenLog:
        """Open the log of an attempt that was being written when the server ended."""
        rows = await self._database.read(lambda tx: segments_of(tx, attempt_uid))
        closed = [row for row in rows if row.state is not SegmentState.OPEN]
        opened = [row for row in rows if row.state is SegmentState.OPEN]
        first = opened[-1].first_sequence if opened else (closed[-1].next_sequence if closed else 0)
        segment = Figures(first, first)
        try:
            info = await self._written.info(SegmentKey(attempt_uid, first))
        except SegmentNotFoundError:
            pass  # its row was committed, its first byte was not
        else:
            segment = figures_of_info(info)
            segment = await self._find_more(attempt_uid, segment, closed)
        return self._open_log(attempt_uid, epoch, budget, closed, segment)

    async def _find_more(self, attempt_uid: str, segment: Figures, closed: list[Segment]) -> Figures:
        """Take up segments that the database, restored from an older copy, does not know: nothing is overwritten.

        :return: the last one there is.
        """
        while segment.next_sequence > segment.first_sequence:
            try:
                info = await self._written.info(SegmentKey(attempt_uid, segment.next_sequence))
            except SegmentNotFoundError:
                break
            done, first = segment.segment(attempt_uid, SegmentState.CLOSED), segment.next_sequence
            await self._database.write(lambda tx, done=done, first=first: self._follow_on(tx, done, first))  # type: ignore[misc]
            closed.append(done)
            segment = figures_of_info(info)
            _log.warning("log.segment_found", attempt_uid=attempt_uid, first_sequence=first)
        return segment

    def _open_log(self, attempt_uid: str, epoch: int, budget: int, closed: list[Segment], segment: Figures) -> OpenLog:
        before = Figures(0, 0)
        for row in closed:
            before = add_figures(before, figures_of(row))

        async def begin_segment(done: Segment, first_sequence: int) -> None:
            await self._begin_segment(attempt_uid, done, first_sequence)

        log = OpenLog(
            attempt_uid,
            self.store,
            epoch=epoch,
            segment=segment,
            before=before,
            begin_segment=begin_segment,
            segment_bytes=max(4096, min(self._settings.segment_bytes, budget // 8)),
            pending_bytes=self._settings.pending_bytes,
            recent_bytes=self._settings.recent_bytes,
            memory=self._memory,
        )
        self._open[attempt_uid] = log
        self._budgets[attempt_uid] = budget
        self._segments[attempt_uid] = closed
        return log

    async def _begin_segment(self, attempt_uid: str, done: Segment, first_sequence: int) -> None:
        await self._database.persist(lambda tx: self._follow_on(tx, done, first_sequence))
        closed = self._segments[attempt_uid]
        closed.append(done)
        cut = over_budget(closed, self._budgets[attempt_uid])
        if not cut:
            return
        keys = [(row.attempt_uid, row.first_sequence) for row in cut]
        await self._database.persist(lambda tx: mark_segments(tx, keys, SegmentState.CUT))
        for row in cut:
            closed[closed.index(row)] = dataclasses.replace(row, state=SegmentState.CUT)
        try:
            # At once, as the disk is what must not fill up; the rest is retention's.
            await self._disk.remove([SegmentKey(*key) for key in keys])
        except LogStoreError as error:
            _log.warning("log.cut_left_bytes", attempt_uid=attempt_uid, error=str(error))

    def _follow_on(self, tx: Transaction, done: Segment, first_sequence: int) -> None:
        """Write down that a segment ends, and the one that follows it."""
        close_segment(tx, done)
        insert_segment(tx, done.attempt_uid, first_sequence, self._owner, known_new=False)

    def roll_older_than(self, age: float) -> None:
        """End the segments that have been written to for longer than `age`, in seconds; others follow them."""
        for log in self._open.values():
            log.roll_older_than(age)

    def forget(self, attempt_uid: str) -> None:
        """Let go of a log that has ended and is written down as such; its followers are woken."""
        log = self._open.pop(attempt_uid, None)
        self._budgets.pop(attempt_uid, None)
        self._segments.pop(attempt_uid, None)
        if log is not None:
            log.end()

    async def segments(self, attempt_uid: str) -> Sequence[Segment]:
        """Return a log's segments in order, the open one with its durable figures."""
        log = self._open.get(attempt_uid)
        if log is not None:
            return [*self._segments[attempt_uid], log.segment.segment(attempt_uid, SegmentState.OPEN)]
        return await self._database.read(lambda tx: segments_of(tx, attempt_uid))

    async def close(self) -> None:
        """Give what was taken a moment to become durable; the logs stay open in the database.

        What a full disk keeps from becoming durable was not acknowledged: the workers still have it.
        """
        flushes = [asyncio.create_task(log.flush()) for log in self._open.values()]
        if flushes:
            await asyncio.wait(flushes, timeout=CLOSE_SECONDS)
        for log in list(self._open.values()):
            log.end()
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, *(log.stop() for log in self._open.values()), return_exceptions=True)
        self._open.clear()


def over_budget(closed: Sequence[Segment], budget: int) -> list[Segment]:
    """Return the closed segments to drop: the oldest behind the head, until what is left fits.

    The head is what fits into half the budget, and at least the first segment.
    """
    total = sum(row.size for row in closed if row.state is not SegmentState.CUT)
    head, in_head = 0, True
    cut: list[Segment] = []
    for index, row in enumerate(closed):
        if row.state is SegmentState.CUT:
            in_head = False
            continue
        in_head = in_head and (index == 0 or head + row.size <= budget // 2)
        if in_head:
            head += row.size
            continue
        if total <= budget or index == len(closed) - 1:
            break
        cut.append(row)
        total -= row.size
    return cut
