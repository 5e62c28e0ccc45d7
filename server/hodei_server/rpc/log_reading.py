"""What every way of reading a log has in common: where it begins, where it ends, and what comes in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from hodei.clock import steady_time_ns
from hodei.v1 import log_pb2 as wire
from hodei_logstore.contract import StoredBlock
from hodei_server.domain.errors import InvalidRequestError, Violation
from hodei_server.domain.spec import check_duration
from hodei_server.logs.changes import wait_for
from hodei_server.logs.cursor import Cursor, Cut, find_tail, find_time, trim
from hodei_server.rpc.log_lookup import AttemptLog, LogLookup
from hodei_server.rpc.requests import MAX_INTEGER, check_time, refuse

#: Seconds of silence after which a follower is told that it is still connected.
HEARTBEAT_SECONDS = 15.0
#: Seconds until a log that is about to be opened is looked at again.
NOT_YET_OPEN_SECONDS = 0.01
#: Far more lines than any log has.
MAX_TAIL_LINES = 1 << 40
#: Read at once for a follower: what one that takes nothing more keeps in memory, or one block.
READ_BYTES = 256 << 10

Streams = frozenset[wire.LogStream.ValueType]
ReadRequest = wire.StreamLogsRequest | wire.SearchLogsRequest


def check_streams(streams: Any) -> Streams:
    """Return the wanted streams; all of them are the same as none named.

    :raise InvalidRequestError: one is unknown.
    """
    for stream in set(streams):
        if stream not in {wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM}:
            raise InvalidRequestError([Violation("streams", f"{stream} is not a stream")])
    wanted = frozenset(streams)
    return frozenset() if len(wanted) == 3 else wanted


def check_range(request: ReadRequest) -> None:
    """Check where a reader is to begin and to end.

    :raise InvalidRequestError: no log has such a place.
    """
    begin, end = request.WhichOneof("from"), request.WhichOneof("until")
    if begin == "after_sequence" and request.after_sequence >= MAX_INTEGER:
        raise InvalidRequestError([Violation(begin, f"must be less than {MAX_INTEGER}")])
    if begin == "tail_lines" and not 0 <= request.tail_lines <= MAX_TAIL_LINES:
        raise InvalidRequestError([Violation(begin, f"must lie between 0 and {MAX_TAIL_LINES}")])
    for field in ("since_time", "until_time"):
        if field in {begin, end}:
            check_time(field, getattr(request, field))
    for field in ("since_ago", "until_ago"):
        if field in {begin, end}:
            refuse(check_duration(field, getattr(request, field), zero=True))
    if end is not None and request.follow:
        raise InvalidRequestError([Violation(end, "can't go with follow")])


async def find_start(lookup: LogLookup, request: ReadRequest, log: AttemptLog, streams: Streams) -> tuple[int, int]:
    """Return the first sequence to read and how many bytes of it to leave out."""
    place = request.WhichOneof("from")
    if place == "after_sequence":
        return request.after_sequence + 1, 0
    if place is None or not log.attempt_uid:
        return 0, 0
    if place == "tail_lines":
        return await find_tail(lookup.book, log.attempt_uid, request.tail_lines, streams)
    if place == "since_time":
        nanos = request.since_time.ToNanoseconds()
    else:
        nanos = steady_time_ns() - request.since_ago.ToNanoseconds()
    return await find_time(lookup.book, log.attempt_uid, nanos), 0


async def find_end(lookup: LogLookup, request: ReadRequest, log: AttemptLog) -> int | None:
    """Return the sequence behind the last one to read; None where the log's own end is it."""
    place = request.WhichOneof("until")
    if place is None or not log.attempt_uid:
        return None
    if place == "until_time":
        nanos = request.until_time.ToNanoseconds()
    else:
        nanos = steady_time_ns() - request.until_ago.ToNanoseconds()
    return await find_time(lookup.book, log.attempt_uid, nanos + 1)


async def read_log(
    lookup: LogLookup, log: AttemptLog, cursor: Cursor, *, follow: bool, end: int | None = None
) -> AsyncIterator[Sequence[StoredBlock] | Cut | wire.LogStreamEnd | None]:
    """Yield a log from a cursor on: blocks and cuts, None after every few seconds of silence, and its end at last.

    :param end: the sequence behind the last one wanted.
    """
    pieces = 0
    try:
        while end is None or cursor.sequence < end:
            opened = lookup.book.get(log.attempt_uid)
            moved = opened.change.next_move() if opened is not None else None
            piece = await cursor.read(READ_BYTES) if log.attempt_uid else ()
            if isinstance(piece, Cut):
                yield piece
                continue
            if piece:
                pieces += 1
                if pieces > 1 and (end is None or cursor.sequence < end):
                    # Whoever takes a second piece reads on: the next is read while this one is on its way.
                    cursor.read_ahead(READ_BYTES)
                taken = [piece if end is None else [trim(stored, stored.first_sequence, end) for stored in piece]]
                del piece
                yield taken.pop()  # nothing here keeps it while it is on its way
                continue
            if not follow:
                break
            if moved is None:
                # It has ended, or it is about to be opened: its attempt was written down just now.
                state = await lookup.look(log)
                if state.receipt.ended and (state.receipt.expired or cursor.sequence >= state.receipt.chunks):
                    yield lookup.end(log, state, cursor.sequence)
                    return
                opening = lookup.next_move(log.job_id)
                if lookup.book.get(log.attempt_uid) is None:
                    await wait_for(opening, NOT_YET_OPEN_SECONDS)
                continue
            if not await wait_for(moved, HEARTBEAT_SECONDS):
                yield None
        state = await lookup.look(log)
        yield lookup.end(log, state, cursor.sequence if end is None else min(cursor.sequence, end))
    finally:
        cursor.close()


def start_message(log: AttemptLog, sequence: int, skip: int) -> wire.LogStreamStart:
    """Return what a stream begins with."""
    return wire.LogStreamStart(
        job_id=log.job_id,
        attempt_uid=log.attempt_uid,
        attempt_number=log.number,
        first_sequence=sequence,
        skip_bytes=skip,
    )


def cut_message(cut: Cut) -> wire.LogCut:
    """Return a cut as the wire tells it."""
    return wire.LogCut(
        first_sequence=cut.first_sequence,
        last_sequence=cut.next_sequence - 1,
        bytes=cut.size,
        lines=cut.lines,
        expired=cut.expired,
    )
