"""From what a client names to a log, and what a log amounts to."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from hodei.checksum import encode_checksum
from hodei.v1 import log_pb2 as wire
from hodei.v1 import types_pb2 as types_wire
from hodei_server.db.database import Database
from hodei_server.db.job_queries import attempt_row
from hodei_server.db.jobs import job_row
from hodei_server.db.schema import attempts
from hodei_server.db.segments import Segment, segments_of
from hodei_server.db.transaction import Transaction
from hodei_server.domain.errors import InvalidRequestError, NotFoundError, Violation
from hodei_server.domain.spec import check_text
from hodei_server.domain.states import JobState
from hodei_server.logs.book import LogBook
from hodei_server.logs.changes import ChangesByKey, wait_for
from hodei_server.logs.receipt import sum_up
from hodei_server.rpc.requests import refuse, require

T = TypeVar("T")

#: Seconds after which a wait for a job's first attempt looks again by itself.
LOOK_AGAIN_SECONDS = 15.0


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptLog:
    """A log that a client asked for; without a uid it is the empty one of a job that has no attempt."""

    job_id: str
    attempt_uid: str
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class LogState:
    """A log as one look has found it.

    :param job: the row of its job; None where there is no such job any more.
    :param attempt: that of its attempt; None for the empty log of a job without one.
    """

    job: RowMapping | None
    attempt: RowMapping | None
    receipt: wire.LogReceipt
    segments: Sequence[Segment] = ()


class LogLookup:
    """Finds attempts and sums their logs up."""

    def __init__(self, database: Database, book: LogBook, changed: ChangesByKey) -> None:
        self.book = book
        self._database = database
        self._changed = changed

    async def read(self, query: Callable[[Transaction], T]) -> T:
        """Ask the database."""
        return await self._database.read(query)

    async def find(self, job_id: str, attempt_uid: str, number: int, *, wait: bool) -> AttemptLog:
        """Find an attempt by uid or number, else the job's newest.

        :param wait: until there is such an attempt, or the job has ended.
        :raise InvalidRequestError: both uid and number are given, or no job.
        :raise NotFoundError: there is no such job or attempt (L25).
        """
        require("job_id", job_id)
        refuse(check_text("attempt_uid", attempt_uid, 32))
        if attempt_uid and number:
            raise InvalidRequestError([Violation("attempt_number", "can't go with attempt_uid")])
        if number < 0:
            raise InvalidRequestError([Violation("attempt_number", "counts from 1")])

        def look(tx: Transaction) -> tuple[RowMapping | None, RowMapping | None]:
            columns = attempts.c
            query = select(*columns).where(columns.job_id == job_id)
            if attempt_uid:
                query = query.where(columns.attempt_uid == attempt_uid)
            elif number:
                query = query.where(columns.number == number)
            else:
                query = query.order_by(columns.number.desc()).limit(1)
            return job_row(tx, job_id), tx.execute(query).mappings().one_or_none()

        while True:
            moved = self._changed.next_move(job_id)
            job, attempt = await self._database.read(look)
            if job is None:
                raise NotFoundError("job", job_id)
            if attempt is not None:
                return AttemptLog(job_id, attempt["attempt_uid"], attempt["number"])
            ended = JobState(job["state"]).terminal
            if attempt_uid or (number and (ended or not wait)):
                raise NotFoundError("attempt", attempt_uid or f"{number} of job {job_id}")
            if ended or not wait:
                return AttemptLog(job_id, "", 0)
            await wait_for(moved, LOOK_AGAIN_SECONDS)

    def next_move(self, job_id: str) -> asyncio.Future[None]:
        """Return what is done when a job moves next; it is shared, as `Change` says."""
        return self._changed.next_move(job_id)

    async def receipt(self, log: AttemptLog) -> wire.LogReceipt:
        """Sum a log up; the empty one of a job without an attempt is complete."""
        return (await self.look(log)).receipt

    async def look(self, log: AttemptLog) -> LogState:
        """Look at a log, its attempt and its job: at once, where it is not being written.

        :raise NotFoundError: its attempt is not there any more.
        """
        uid = log.attempt_uid
        if not uid:
            job = await self._database.read(lambda tx: job_row(tx, log.job_id))
            return LogState(job, None, wire.LogReceipt(ended=True, complete=True, checksum=encode_checksum(0)))

        def read(tx: Transaction) -> tuple[RowMapping | None, list[Segment], RowMapping | None]:
            # The attempt first: where it has ended, its segments are all there, and its job has moved on.
            return attempt_row(tx, uid), segments_of(tx, uid), job_row(tx, log.job_id)

        attempt, stored, job = await self._database.read(read)
        if attempt is None:
            raise NotFoundError("attempt", uid)
        segments = stored if self.book.get(uid) is None else await self.book.segments(uid)
        return LogState(job, attempt, sum_up(uid, attempt, segments), segments)

    @staticmethod
    def end(log: AttemptLog, state: LogState, next_sequence: int) -> wire.LogStreamEnd:
        """Return what a stream ends with.

        :raise NotFoundError: its job is not there any more.
        """
        job, attempt = state.job, state.attempt
        if job is None:
            raise NotFoundError("job", log.job_id)
        end = wire.LogStreamEnd(next_sequence=next_sequence, receipt=state.receipt)
        job_state = JobState(job["state"])
        end.job_state = types_wire.JobState.ValueType(int(job_state))
        if attempt is not None and attempt["outcome"] is not None:
            end.outcome.ParseFromString(attempt["outcome"])
        elif attempt is None and job["outcome"] is not None:
            end.outcome.ParseFromString(job["outcome"])
        over = attempt is not None and attempt["log_ended"]
        if over and (job["attempt_number"] > log.number or not job_state.terminal):
            end.another_attempt = True
            end.next_attempt_number = log.number + 1
        return end
