"""Searching a log where it lies: only lines that match travel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of
from hodei_server.domain.errors import InvalidRequestError, Violation
from hodei_server.logs.cursor import Cursor, Cut
from hodei_server.logs.search import MAX_PATTERN, LineSearch, Pattern, PatternError, read_positions
from hodei_server.rpc.log_lookup import LogLookup
from hodei_server.rpc.log_reading import (
    Streams,
    check_range,
    check_streams,
    cut_message,
    find_end,
    find_start,
    read_log,
    start_message,
)
from hodei_server.rpc.requests import MAX_INTEGER, refuse

#: Bytes of matching lines that are sent together, and bytes searched after which a search says how far it is.
MESSAGE_BYTES = 128 << 10
PROGRESS_BYTES = 16 << 20
#: A chunk has no more.
MAX_OFFSET = 64 << 10
STREAMS = frozenset({wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR, wire.LOG_STREAM_SYSTEM})


def check_search(request: wire.SearchLogsRequest) -> tuple[Pattern, Streams]:
    """Return what is searched for, and where.

    :raise InvalidRequestError: the request makes no sense.
    """
    check_range(request)
    streams = check_streams(request.streams)
    refuse(_position_violations(request))
    if not request.pattern:
        raise InvalidRequestError([Violation("pattern", "is missing")])
    if len(request.pattern) > MAX_PATTERN:
        raise InvalidRequestError([Violation("pattern", f"must have at most {MAX_PATTERN} characters")])
    if "\n" in request.pattern:
        raise InvalidRequestError([Violation("pattern", "must lie within a line")])
    try:
        pattern = Pattern(request.pattern, literal=request.literal, ignore_case=request.ignore_case)
    except PatternError as error:
        raise InvalidRequestError([Violation("pattern", f"is no expression of RE2: {error}")]) from None
    return pattern, streams


def _position_violations(request: wire.SearchLogsRequest) -> list[Violation]:
    found: list[Violation] = []
    seen: set[int] = set()
    for position in request.positions.positions:
        if position.stream not in STREAMS or position.stream in seen:
            found.append(Violation("positions", "must name each stream once"))
        seen.add(position.stream)
        if position.sequence > MAX_INTEGER or position.offset > MAX_OFFSET:
            found.append(Violation("positions", "lie in no chunk"))
    if request.WhichOneof("from") == "positions" and not seen:
        found.append(Violation("positions", "are missing"))
    return found


async def search_log(
    lookup: LogLookup, request: wire.SearchLogsRequest, pattern: Pattern, streams: Streams
) -> AsyncIterator[wire.SearchLogsResponse]:
    """Yield a search's answers."""
    log = await lookup.find(request.job_id, request.attempt_uid, request.attempt_number, wait=request.follow)
    if request.WhichOneof("from") == "positions":
        (sequence, positions), skip = read_positions(request.positions.positions), 0
    else:
        sequence, skip = await find_start(lookup, request, log, streams)
        positions = dict.fromkeys(streams or wire.LogStream.values(), (sequence, skip))
    end = await find_end(lookup, request, log)
    yield wire.SearchLogsResponse(start=start_message(log, sequence, skip))
    search = LineSearch(pattern, positions, sequence)
    cursor = Cursor(lookup.book, log.attempt_uid, sequence)
    unsaid = 0
    async for piece in read_log(lookup, log, cursor, follow=request.follow, end=end):
        if piece is None:
            yield wire.SearchLogsResponse(lines=wire.LogLines(next=search.positions()))
            continue
        if isinstance(piece, Cut | wire.LogStreamEnd):
            lines = list(search.finish())
            if lines:
                # Who breaks off here has not heard of the cut: it goes on before it.
                yield wire.SearchLogsResponse(lines=wire.LogLines(lines=lines, next=search.positions()))
            if isinstance(piece, Cut):
                search.skip_to(piece.next_sequence)
                yield wire.SearchLogsResponse(cut=cut_message(piece), next=search.positions())
            else:
                yield wire.SearchLogsResponse(end=piece)
            continue
        found, size = wire.LogLines(), 0
        for chunk in (chunk for stored in piece for chunk in chunks_of(stored.data)):
            if streams and chunk.stream not in streams:
                search.skip_to(chunk.sequence + 1)
                continue
            for line in search.take(chunk):
                found.lines.append(line)
                size += len(line.data)
            unsaid += len(chunk.data)
            if size >= MESSAGE_BYTES:
                found.next.CopyFrom(search.positions())
                yield wire.SearchLogsResponse(lines=found)
                found, size, unsaid = wire.LogLines(), 0, 0
        if found.lines or unsaid >= PROGRESS_BYTES:
            found.next.CopyFrom(search.positions())
            yield wire.SearchLogsResponse(lines=found)
            unsaid = 0
        # Others are served between two pieces.
        await asyncio.sleep(0)
