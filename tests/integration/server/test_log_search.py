"""Lines found in logs that are being written, kept, and broken off."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from hodei.v1 import log_pb2, log_pb2_grpc
from hodei_client import STDERR, STDOUT, AttemptEnd, Chunk, Client, Cut, InvalidRequestError, Line, LogPlace
from hodei_faults import FaultyProxy
from hodei_server.app import Server


async def found(client: Client, job: str, pattern: str, **options: Any) -> list[bytes]:
    """Return the lines that match."""
    return [event.data async for event in client.search(job, pattern, **options) if isinstance(event, Line)]


async def test_the_lines_that_match_are_found_and_no_others(client: Client) -> None:
    """Over blocks, in both streams, with where each is from."""
    job = await client.submit(["sh", "-c", "seq 100000; echo 4242 is no number >&2"])
    await client.wait(job)
    events = [event async for event in client.search(job, "4242")]
    assert isinstance(events[-1], AttemptEnd)
    lines = [event for event in events if isinstance(event, Line)]
    expected = [b"%d\n" % number for number in range(1, 100_001) if "4242" in str(number)]
    assert [line.data for line in lines if line.stream == STDOUT] == expected
    assert [line.data for line in lines if line.stream == STDERR] == [b"4242 is no number\n"]
    assert await found(client, job, "4242", streams=[STDERR]) == [b"4242 is no number\n"]
    assert await found(client, job, "IS NO", ignore_case=True, literal=True) == [b"4242 is no number\n"]


async def test_a_search_sends_little_of_a_large_log(server: Server, client: Client) -> None:
    """What does not match does not travel; a log is read once, whatever its length."""
    job = await client.submit(["sh", "-c", "seq 2000000; echo needle"])
    await client.wait(job)
    proxy = FaultyProxy(("127.0.0.1", server.address.port))
    async with proxy, Client(proxy.address) as counted:
        assert await found(counted, job, "needle") == [b"needle\n"]
        assert proxy.answered < 64 << 10


async def test_a_followed_search_tells_a_line_when_it_is_there(client: Client) -> None:
    """A line that has not ended is told when its log has."""
    job = await client.submit(["sh", "-c", "echo first ERROR; printf 'second '; while :; do sleep 0.05; done"])
    seen = asyncio.Event()
    lines: list[bytes] = []

    async def search() -> None:
        async for event in client.search(job, "ERROR", follow=True):
            if isinstance(event, Line):
                lines.append(event.data)
                seen.set()

    searching = asyncio.create_task(search())
    async with asyncio.timeout(60):
        await seen.wait()
        await client.cancel(job, force=True)
        await searching
    assert lines == [b"first ERROR\n"]
    await client.wait(job)
    assert await found(client, job, "second") == [b"second "]


async def test_a_search_goes_on_over_broken_connections(server: Server) -> None:
    """L05: each line once and in order."""
    proxy = FaultyProxy(("127.0.0.1", server.address.port))
    async with proxy, Client(proxy.address) as client:
        script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; sleep 0.5; seq 3001 6000"
        job = await client.submit(["sh", "-c", script])
        numbers = []
        async for event in client.search(job, "5", follow=True):
            if isinstance(event, Line):
                numbers.append(int(event.data))
                if len(numbers) % 500 == 1:
                    proxy.reset()
    assert numbers == [number for number in range(1, 6001) if "5" in str(number)]


#: Outgrows a budget of 1 MiB, each time with a line that has not ended, and waits.
OUTGROWS = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf '%0700d\\n%0800d' $i $i; done; echo done; sleep 600"


async def outgrown(client: Client) -> str:
    """Return a job whose log has a cut, and which says nothing more."""
    job = await client.submit(["sh", "-c", OUTGROWS], log_budget_bytes=1 << 20)
    async with asyncio.timeout(60):
        async for event in client.search(job, "done", follow=True):
            if isinstance(event, Line):
                return job
    raise AssertionError("it has ended")


async def test_a_cut_is_told_once_however_soon_behind_it_a_search_breaks_off(server: Server, client: Client) -> None:
    """L05, L15: nothing that matches has come behind it, which would say how far the search is."""
    job = await outgrown(client)
    proxy = FaultyProxy(("127.0.0.1", server.address.port))
    cuts: list[tuple[int, int]] = []
    async with proxy, Client(proxy.address) as broken, asyncio.timeout(60):
        async for event in broken.search(job, "nothing like it", follow=True):
            if isinstance(event, Cut):
                cuts.append((event.first_sequence, event.last_sequence))
                proxy.reset()
                await client.cancel(job, force=True)
    assert len(cuts) == 1


async def test_a_search_that_breaks_off_before_a_cut_is_told_goes_on_before_it(server: Server, client: Client) -> None:
    """L15: the last lines before it are told with a place from where it is still to come, and it with one behind."""
    job = await outgrown(client)
    before: list[int] = []
    behind: list[int] = []
    async with aio.insecure_channel(server.address.target) as channel, asyncio.timeout(60):
        stub: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(channel)
        async for response in stub.SearchLogs(log_pb2.SearchLogsRequest(job_id=job, pattern="0")):
            if response.HasField("lines"):
                before += [each.sequence for each in response.lines.next.positions]
            if response.HasField("cut"):
                behind = [each.sequence for each in response.next.positions]
                break
    assert max(before) <= response.cut.first_sequence
    assert set(behind) == {response.cut.last_sequence + 1}
    await client.cancel(job, force=True)


async def test_a_log_is_read_between_two_times(client: Client, tmp_path: Path) -> None:
    """--since and --until, by the time index: with the first chunk that is as young, to the last that is as old."""
    script = "for word in one two three; do echo $word; until [ -e $0/$word ]; do sleep 0.02; done; sleep 0.1; done"
    job = await client.submit(["sh", "-c", script, str(tmp_path)])
    async for event in client.logs(job):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            (tmp_path / event.data.decode().strip()).touch()
    lines = [event async for event in client.search(job, ".", streams=[STDOUT]) if isinstance(event, Line)]
    assert [line.data for line in lines] == [b"one\n", b"two\n", b"three\n"]

    def moment(line: Line, micros: int) -> dt.datetime:
        return dt.datetime.fromtimestamp(line.time // 1000 / 1e6, dt.UTC) + dt.timedelta(microseconds=micros)

    place = LogPlace(since=moment(lines[1], -1), until=moment(lines[1], 1))
    assert await found(client, job, ".", place=place) == [b"two\n"]
    assert await found(client, job, ".", place=LogPlace(until=moment(lines[1], 1)), streams=[STDOUT]) == [
        b"one\n",
        b"two\n",
    ]
    ends = [event async for event in client.logs(job, place=place, follow=False) if isinstance(event, AttemptEnd)]
    assert ends[0].receipt.ended


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"pattern": "a("}, "pattern"), ({"pattern": "a\nb"}, "pattern"), ({"pattern": "x" * 1001}, "pattern")],
)
async def test_a_pattern_that_is_none_is_refused(client: Client, fields: dict[str, str], named: str) -> None:
    """By its field."""
    job = await client.submit(["true"])
    with pytest.raises(InvalidRequestError) as caught:
        await found(client, job, **fields)
    assert [violation.field for violation in caught.value.violations] == [named]
