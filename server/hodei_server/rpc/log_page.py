"""A page of a log's history."""

from __future__ import annotations

import asyncio

from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import chunks_of
from hodei_server.logs.cursor import Cursor, Cut
from hodei_server.rpc.log_lookup import LogLookup
from hodei_server.rpc.log_reading import READ_BYTES, Streams, check_streams, cut_message
from hodei_server.rpc.requests import PageTokens, page_size, parse_place

DEFAULT_PAGE = 1000
MAX_PAGE = 10_000
#: Of chunks' data in a page.
PAGE_BYTES = 1 << 20
#: Of log that is looked through for a page. Where few chunks are of the wanted streams it comes back short, or empty.
SCAN_BYTES = 8 << 20


async def get_page(lookup: LogLookup, request: wire.GetLogsRequest) -> wire.GetLogsResponse:
    """Return a page, and the token of the next one.

    :raise InvalidRequestError: the request makes no sense.
    :raise NotFoundError: there is no such job, or attempt.
    """
    streams = check_streams(request.streams)
    limit = page_size(request.page_size, default=DEFAULT_PAGE, most=MAX_PAGE)
    tokens = PageTokens(request)
    attempt_uid, _, number = tokens.decode(request.page_token).partition(":")
    sequence = parse_place(number) if attempt_uid else 0
    log = await lookup.find(
        request.job_id,
        attempt_uid or request.attempt_uid,
        0 if attempt_uid else request.attempt_number,
        wait=False,
    )
    answer = wire.GetLogsResponse(attempt_uid=log.attempt_uid)
    if log.attempt_uid:
        sequence = await _fill(answer, Cursor(lookup.book, log.attempt_uid, sequence), streams, limit)
    receipt = await lookup.receipt(log)
    if log.attempt_uid and (not receipt.ended or sequence < receipt.chunks) and not receipt.expired:
        answer.next_page_token = tokens.encode(f"{log.attempt_uid}:{sequence}")
    return answer


async def _fill(answer: wire.GetLogsResponse, cursor: Cursor, streams: Streams, limit: int) -> int:
    """Put chunks and cuts into a page; return the sequence that the next one begins with."""
    sequence, size, scanned = cursor.sequence, 0, 0
    while scanned < SCAN_BYTES:
        piece = await cursor.read(READ_BYTES)
        if isinstance(piece, Cut):
            answer.cuts.append(cut_message(piece))
            sequence = cursor.sequence
            continue
        if not piece:
            break
        for chunk in (chunk for stored in piece for chunk in chunks_of(stored.data)):
            if not streams or chunk.stream in streams:
                if size and size + len(chunk.data) > PAGE_BYTES:
                    return sequence
                answer.chunks.append(chunk)
                size += len(chunk.data)
            sequence = chunk.sequence + 1
            if len(answer.chunks) >= limit:
                return sequence
        scanned += sum(len(stored.data) for stored in piece)
        # Others have their turn, also where all of it is in memory.
        await asyncio.sleep(0)
    return sequence
