"""The account can tell: what is missing, doubled or changed is noticed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from hodei.checksum import add_checksums, chunk_checksum
from hodei.v1 import log_pb2 as wire
from hodei_client import STDERR, STDOUT, Chunk, Cut, LogEvent
from hodei_torture.account import Tally
from hodei_torture.load import JOB, Follow
from hodei_torture.reading import Reading, notes, output
from hodei_torture.run import proved_nothing
from hodei_torture.site import Site
from hodei_torture.stream import Streamed, WrongStreamError

EXPECTED = output(200)
#: Lines of a job that are more than a pipe holds, and whoever reads from it at once.
LONG = 8000


def read(*pieces: bytes | None) -> tuple[int | None, int | None]:
    """Read pieces, None for a cut; return how far that got, and where it was wrong."""
    reading = Reading(EXPECTED)
    for piece in pieces:
        if piece is None:
            reading.skip()
        else:
            reading.read(piece)
    return reading.place, reading.wrong


def test_what_is_whole_is_whole_however_it_comes() -> None:
    """In any pieces, and with a marked stretch missing."""
    assert read(EXPECTED) == (len(EXPECTED), None)
    assert read(*(EXPECTED[place : place + 7] for place in range(0, len(EXPECTED), 7))) == (len(EXPECTED), None)
    assert read(EXPECTED[:100], None, EXPECTED[1005:1100], EXPECTED[1100:]) == (len(EXPECTED), None)


@pytest.mark.parametrize(
    "pieces",
    [
        (EXPECTED[:100], EXPECTED[101:]),
        (EXPECTED[:100], EXPECTED[99:]),
        (EXPECTED[:100], EXPECTED[:100]),
        (EXPECTED[:100] + b"?" + EXPECTED[101:],),
        (EXPECTED[:100], None, EXPECTED[1005:1100], EXPECTED[1101:]),
        (EXPECTED, b"more"),
    ],
    ids=["missing", "overlapping", "doubled", "changed", "missing behind a cut", "too much"],
)
def test_what_is_not_whole_is_noticed(pieces: tuple[bytes | None, ...]) -> None:
    """With the place where it begins."""
    assert read(*pieces)[1] is not None


def block(*sequences: int) -> wire.StreamLogsResponse:
    """Return a block of chunks without data."""
    return wire.StreamLogsResponse(block=wire.LogBlock(chunks=[wire.LogChunk(sequence=each) for each in sequences]))


def start(sequence: int, attempt: int = 1) -> wire.StreamLogsResponse:
    """Return the beginning of a stream."""
    return wire.StreamLogsResponse(start=wire.LogStreamStart(first_sequence=sequence, attempt_number=attempt))


def cut(first: int, last: int) -> wire.StreamLogsResponse:
    """Return a cut."""
    return wire.StreamLogsResponse(cut=wire.LogCut(first_sequence=first, last_sequence=last))


def end(sequence: int) -> wire.StreamLogsResponse:
    """Return the end."""
    return wire.StreamLogsResponse(end=wire.LogStreamEnd(next_sequence=sequence))


def stream_of(*responses: wire.StreamLogsResponse) -> None:
    """Have a second follower take what a server sends."""
    streamed = Streamed(Site(Path()), "job", EXPECTED, 1)
    for response in responses:
        streamed.take(response)


def test_a_stream_that_brings_each_sequence_once_and_in_order_is_fine() -> None:
    """Over a break, and a cut that begins before the place where it is met."""
    stream_of(start(0), block(0, 1), start(2), block(2), cut(1, 7), block(8), end(9))


@pytest.mark.parametrize(
    "responses",
    [
        (start(0), block(0, 1, 1)),
        (start(0), block(0, 1), start(0)),
        (start(0), block(0, 2)),
        (start(0), block(0), start(1), block(0)),
        (start(0), cut(1, 7)),
        (start(0), block(0), cut(0, 0)),
        (start(0), block(0), end(2)),
        (start(0, attempt=2),),
    ],
    ids=["doubled", "begins early", "missing", "repeated", "early cut", "late cut", "early end", "another attempt"],
)
def test_a_stream_that_does_not_is_noticed(responses: tuple[wire.StreamLogsResponse, ...]) -> None:
    """L04, L05: the Python client would drop what comes twice, and say nothing."""
    with pytest.raises(WrongStreamError):
        stream_of(*responses)


def follow_of(*events: LogEvent) -> list[str]:
    """Return what a follower finds wrong with what the client brings."""
    follow = Follow(EXPECTED, {})
    return [fault for fault in map(follow.take, events) if fault]


def chunk(sequence: int, attempt: int = 1) -> Chunk:
    """Return a chunk without data."""
    return Chunk(attempt, sequence, 0, STDOUT, b"")


def test_a_follow_that_brings_each_sequence_once_and_in_order_is_fine() -> None:
    """Over a cut that begins before the place where it is met, and into another attempt, which may begin with one."""
    seen: dict[int, Reading] = {}
    follow = Follow(EXPECTED, seen)
    assert not follow.begun
    for event in (chunk(0), chunk(1), Cut(1, 1, 7, 0, 0), chunk(8), Cut(2, 0, 3, 0, 0), chunk(4, attempt=2)):
        assert follow.take(event) == ""
    assert follow.begun
    assert {attempt: reading.cut for attempt, reading in seen.items()} == {1: True, 2: True}


@pytest.mark.parametrize(
    "events",
    [
        (chunk(1),),
        (chunk(0), chunk(0)),
        (chunk(0), chunk(2)),
        (chunk(0), Cut(1, 2, 7, 0, 0)),
        (Cut(1, 1, 7, 0, 0),),
        (chunk(0), chunk(1), Cut(1, 0, 1, 0, 0)),
        (chunk(0), Cut(2, 1, 7, 0, 0)),
        (Cut(1, 0, 7, 0, 0), chunk(9)),
    ],
    ids=["late", "doubled", "missing", "gap before a cut", "cut begins late", "old cut", "of another", "after a cut"],
)
def test_a_follow_that_does_not_is_noticed(events: tuple[LogEvent, ...]) -> None:
    """L04, L05, L15: a gap before a cut is one, too."""
    assert len(follow_of(*events)) == 1


def test_a_tally_counts_what_was_cut() -> None:
    """L15: chunks, bytes and lines; and what was cut has a checksum that the whole one is made of."""
    chunks = [Chunk(1, number, number, STDOUT, b"line %d of 9\n" % number) for number in range(9)]
    terms = [chunk_checksum(each.sequence, each.stream, each.data) for each in chunks]
    whole = Tally(Reading(EXPECTED), 0)
    for each in chunks:
        whole.add(each)
    missing = Tally(Reading(EXPECTED), add_checksums(*terms[3:6]))
    cut_out = Cut(1, 3, 5, sum(len(each.data) for each in chunks[3:6]), 3)
    events: list[LogEvent] = [*chunks[:3], cut_out, *chunks[6:]]
    for event in events:
        missing.add(event)
    assert dataclasses.replace(whole, reading=missing.reading) == missing
    assert (missing.chunks, missing.lines, missing.others) == (9, 9, 0)
    missing.add(Chunk(1, 9, 9, STDERR, b"note 50\n"))
    assert (missing.others, missing.errors) == (8, b"note 50\n")


async def job(marks: Path, lines: int) -> asyncio.subprocess.Process:
    """Start what the kill tests run; it goes on for as long as nobody reads more of it than a pipe holds."""
    arguments = ("sh", "-c", JOB, "job", str(marks), str(lines), "0", "0")
    environment = {**os.environ, "HODEI_ATTEMPT_UID": "one"}
    return await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=asyncio.subprocess.PIPE, limit=1)


async def test_two_runs_of_a_job_at_once_are_noticed_however_close(tmp_path: Path) -> None:
    """W14: also where both begin in one moment; one after the other is fine."""
    for _ in range(2):
        alone = await job(tmp_path, 10)
        assert (await alone.communicate())[0] == output(10)
    assert not (tmp_path / "overlaps").exists()
    for pair in range(1, 6):
        both = [await job(tmp_path, LONG), await job(tmp_path, LONG)]
        async with asyncio.timeout(60):
            while len((tmp_path / "starts").read_text().splitlines()) < 2 + 2 * pair:
                await asyncio.sleep(0.02)
        assert [len((await each.communicate())[0]) for each in both] == [len(output(LONG))] * 2
        assert [each.returncode for each in both] == [0, 0]
    assert len((tmp_path / "overlaps").read_text().splitlines()) == 5
    assert len((tmp_path / "starts").read_text().splitlines()) == 12


@pytest.mark.parametrize("lines", [0, 49, 150, 199])
async def test_a_job_writes_what_is_expected_of_it(tmp_path: Path, lines: int) -> None:
    """To the one stream, and to the other where it is told to."""
    for told in ("", "yes"):
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", JOB, "job", str(tmp_path), str(lines), "3", "0", told),
            env={**os.environ, "HODEI_ATTEMPT_UID": "one"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert await process.communicate() == (output(lines), notes(lines) if told else b"")
        assert process.returncode == 3


def test_a_run_that_proves_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job, no whole log, no kill, and in CI no disk to fill."""
    monkeypatch.setenv("CI", "true")
    assert proved_nothing(jobs=9, complete=9, kills=9, seconds=20.0, disk=object()) == []
    assert len(proved_nothing(jobs=0, complete=0, kills=0, seconds=20.0, disk=None)) == 4
    monkeypatch.delenv("CI")
    assert proved_nothing(jobs=9, complete=9, kills=0, seconds=5.0, disk=None) == []
