"""Following a log over anything that a connection can do."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from hodei.v1 import log_pb2 as wire
from hodei_client import (
    AttemptEnd,
    Chunk,
    Cut,
    LogGapError,
    LogIntegrityError,
    LogPlace,
    NotFoundError,
    ServerError,
    UnavailableError,
)

BROKEN = grpc.StatusCode.UNAVAILABLE


async def read(client: Any, **options: Any) -> list[Any]:
    """Return a whole log."""
    return [event async for event in client.logs("j", **options)]


def data(events: list[Any]) -> bytes:
    """Return a log's bytes."""
    return b"".join(event.data for event in events if isinstance(event, Chunk))


@pytest.mark.parametrize("breaks_at", range(4))
@pytest.mark.parametrize("status", [BROKEN, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, None])
async def test_a_break_anywhere_neither_repeats_nor_skips(
    server: Any, client: Any, says: Any, breaks_at: int, status: grpc.StatusCode | None
) -> None:
    """L04, L05, L06: also one that looks like an end, an OK without the explicit message."""
    chunks = [says["chunk"](number) for number in range(4)]
    first = [says["start"](), *(says["block"](each) for each in chunks[:breaks_at]), *([status] if status else [])]
    rest = [says["block"](each) for each in chunks[breaks_at:]]
    server.scripts = [first, [says["start"](breaks_at), *rest, says["end"](*chunks)]]
    # A server that was there once: before that, a failure is told at once.
    await client.get("j")
    events = await read(client)
    assert data(events) == b"0\n1\n2\n3\n"
    assert isinstance(events[-1], AttemptEnd)
    assert len(server.log_requests) == 2
    again = server.log_requests[1]
    assert again.attempt_uid == "a1"
    assert again.WhichOneof("from") == ("after_sequence" if breaks_at else None)
    assert again.after_sequence == max(breaks_at - 1, 0)


async def test_what_a_server_sends_twice_is_read_once(server: Any, client: Any, says: Any) -> None:
    """L05: by sequence; the same text under another sequence is a real repeat."""
    chunks = [says["chunk"](number, b"same\n") for number in range(3)]
    server.scripts = [[says["start"](), says["block"](*chunks[:2]), says["block"](*chunks), says["end"](*chunks)]]
    assert data(await read(client)) == b"same\n" * 3


async def test_a_gap_without_a_cut_is_an_error(server: Any, client: Any, says: Any) -> None:
    """L04: amid chunks, in front of a cut, and in front of the end."""
    zero, two = says["chunk"](0), says["chunk"](2)
    for wrong in (says["block"](two), says["cut"](2, 3), says["end"](zero, following_sequence=2)):
        server.scripts = [[says["start"](), says["block"](zero), wrong]]
        with pytest.raises(LogGapError):
            await read(client)


async def test_a_cut_is_told_once_and_read_behind(server: Any, client: Any, says: Any) -> None:
    """L15: a break behind it resumes behind it."""
    chunks = [says["chunk"](0), says["chunk"](5)]
    server.scripts = [
        [says["start"](), says["block"](chunks[0]), says["cut"](1, 4), BROKEN],
        [says["start"](5), says["cut"](1, 4), says["block"](chunks[1]), says["end"](*chunks)],
    ]
    events = await read(client)
    assert [type(event) for event in events] == [Chunk, Cut, Chunk, AttemptEnd]
    assert server.log_requests[1].after_sequence == 4


async def test_a_follow_goes_on_with_every_next_attempt(server: Any, says: Any) -> None:
    """However many there are: an attempt's end is no break, so no patience is used up."""
    zero = says["chunk"](0)
    server.scripts = [
        [
            says["start"](number=number),
            says["block"](zero),
            says["end"](zero, following=number + 1 if number < 6 else 0),
        ]
        for number in range(1, 7)
    ]
    from hodei_client import Client  # noqa: PLC0415 - only this test makes one of its own

    async with Client(settings=server.settings(patience=-1.0)) as client:
        events = await read(client, place=LogPlace(tail=1))
    assert [event.attempt_number for event in events if isinstance(event, AttemptEnd)] == [1, 2, 3, 4, 5, 6]
    assert [request.attempt_number for request in server.log_requests] == [0, 2, 3, 4, 5, 6]
    assert server.log_requests[0].tail_lines == 1
    assert {request.WhichOneof("from") for request in server.log_requests[1:]} == {None}


async def test_an_attempt_that_may_follow_but_does_not_ends_the_log(server: Any, client: Any, says: Any) -> None:
    """A job that is cancelled between two attempts has no second one, also when the stream broke meanwhile."""
    zero = says["chunk"](0)
    server.scripts = [
        [says["start"](), says["block"](zero), says["end"](zero, following=2)],
        [BROKEN],
        [grpc.StatusCode.NOT_FOUND],
    ]
    assert data(await read(client)) == b"0\n"


async def test_an_attempt_that_was_asked_for_and_is_not_there_is_told(server: Any, client: Any) -> None:
    """L25."""
    server.scripts = [[grpc.StatusCode.NOT_FOUND]]
    with pytest.raises(NotFoundError) as caught:
        await read(client, place=LogPlace(attempt=7))
    assert caught.value.trace_id == "t" * 32
    assert server.log_requests[0].attempt_number == 7


async def test_without_follow_the_next_attempt_is_left_alone(server: Any, client: Any, says: Any) -> None:
    """One attempt's history is one stream."""
    zero = says["chunk"](0)
    server.scripts = [[says["start"](), says["block"](zero), says["end"](zero, following=2)]]
    assert len(await read(client, follow=False)) == 2


async def test_a_checksum_that_differs_is_told(server: Any, client: Any, says: Any) -> None:
    """Also over a break; not where nobody asked, nor where only a part was read."""
    good, bad = [says["chunk"](0), says["chunk"](1)], says["chunk"](1, b"x\n")
    halves = [
        [says["start"](), says["block"](good[0]), BROKEN],
        [says["start"](1), says["block"](bad), says["end"](*good)],
    ]
    server.scripts = [*halves, *halves, halves[1]]
    with pytest.raises(LogIntegrityError):
        await read(client)
    assert data(await read(client, verify=False)) == b"0\nx\n"
    assert data(await read(client, place=LogPlace(after_sequence=0))) == b"x\n"


async def test_the_last_lines_may_begin_amid_a_chunk(server: Any, client: Any, says: Any) -> None:
    """L05: a break before the first chunk doesn't bring the skipped bytes back."""
    four = says["chunk"](4, b"old\nnew\n")
    server.scripts = [
        [says["start"](4, skip=4), BROKEN],
        [says["start"](4), says["block"](four), says["end"](four)],
    ]
    assert data(await read(client, place=LogPlace(tail=1))) == b"new\n"
    assert server.log_requests[1].after_sequence == 3


async def test_one_stream_of_a_log_has_no_gaps_to_tell(server: Any, client: Any, says: Any) -> None:
    """The sequences of the other stream are simply not there."""
    some = [says["chunk"](number, stream=wire.LOG_STREAM_STDERR) for number in (1, 5)]
    server.scripts = [[says["start"](), says["block"](*some), says["end"](*some, following_sequence=9)]]
    assert data(await read(client, streams=[wire.LOG_STREAM_STDERR])) == b"1\n5\n"


async def test_a_log_that_the_server_can_not_read_ends_in_its_error(server: Any, client: Any, says: Any) -> None:
    """L06: a few tries without anything new, not a follow for ever."""
    server.scripts = [[says["start"](), grpc.StatusCode.INTERNAL]] * 9
    with pytest.raises(ServerError):
        await read(client)
    assert len(server.log_requests) == 4


async def test_patience_begins_anew_with_everything_that_arrives(
    server: Any, says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent job outlives any number of breaks, as heartbeats tell that its server was there."""
    from hodei_client import Client  # noqa: PLC0415 - only this test makes one of its own

    zero = says["chunk"](0)
    alive = wire.StreamLogsResponse(heartbeat=wire.LogStreamHeartbeat())
    now = iter(range(0, 1_000_000, 1000))
    monkeypatch.setattr("hodei_client.endurance.SETTLED_SECONDS", float("inf"))
    monkeypatch.setattr("hodei_client.endurance.monotonic", lambda: float(next(now)))
    server.scripts = [
        *[[says["start"](), alive, BROKEN]] * 5,
        [says["start"](), says["block"](zero), says["end"](zero)],
    ]
    async with Client(settings=server.settings(patience=300.0)) as client:
        assert data(await read(client)) == b"0\n"
        server.scripts = [[says["start"](), BROKEN]] * 5
        with pytest.raises(UnavailableError):
            await read(client)
    assert len(server.scripts) == 3


async def test_leaving_a_follow_ends_its_stream(server: Any, client: Any, says: Any) -> None:
    """L08, L10: the server sees it go."""
    server.scripts = [[says["start"](), says["block"](says["chunk"](0)), None]]
    events = client.logs("j")
    await anext(events)
    await events.aclose()
    await server.cancelled.wait()
