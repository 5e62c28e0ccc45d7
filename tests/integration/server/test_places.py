"""Where a log is read from, and where its bytes are not."""

from __future__ import annotations

import datetime as dt

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import AttemptEnd, Chunk, Client, LogPlace, NotFoundError
from hodei_server.app import Server


async def test_a_place_in_a_log_is_exclusive(client: Client) -> None:
    """L04: what comes after a chunk does not begin with it; history and live, from every chunk on."""
    job = await client.submit(["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done"])
    everything = [event async for event in client.logs(job) if isinstance(event, Chunk)]
    assert b"".join(chunk.data for chunk in everything) == b"1\n2\n3\n4\n5\n"
    for chunk in everything:
        place = LogPlace(after_sequence=chunk.sequence)
        rest = [event async for event in client.logs(job, place=place) if isinstance(event, Chunk)]
        assert rest == everything[chunk.sequence + 1 :]


async def test_log_bytes_are_in_no_database(server: Server, client: Client) -> None:
    """L13: a database would refuse some of them, and grow with all."""
    job = await client.submit(["sh", "-c", "printf 'hardly-\\000-%s-%s' anywhere else"])
    await client.wait(job)
    data = [event.data async for event in client.logs(job) if isinstance(event, Chunk)]
    assert b"".join(data) == b"hardly-\x00-anywhere-else"
    for path in server.settings.data_dir.glob("hodei.db*"):
        assert b"anywhere-else" not in path.read_bytes()


async def test_an_unknown_job_has_no_log(client: Client) -> None:
    """L25: NOT_FOUND, followed or not, and at once."""
    for follow in (True, False):
        with pytest.raises(NotFoundError, match="j0123456789abcdef"):
            [event async for event in client.logs("j0123456789abcdef", follow=follow)]


async def test_the_end_of_a_log_without_output_is_empty(client: Client) -> None:
    """L25: its last lines, or those since a time, are none; while its job runs, and afterwards."""
    job = await client.submit(["sleep", "600"])
    async for response in client.watch(job):
        if response.event.state == wire.JOB_STATE_RUNNING:
            break
    early = dt.datetime.fromtimestamp(0, dt.UTC)
    for _ in range(2):
        for place in (LogPlace(tail=5), LogPlace(since=early)):
            [end] = [event async for event in client.logs(job, place=place, follow=False)]
            assert isinstance(end, AttemptEnd)
        await client.cancel(job, force=True)
        await client.wait(job)
