"""Lines that match, however chunks cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.v1 import log_pb2 as wire
from hodei_server.logs.search import MAX_LINE_BYTES, LineSearch, Pattern, PatternError, read_positions

OUT, ERR = wire.LOG_STREAM_STDOUT, wire.LOG_STREAM_STDERR
WORDS = st.sampled_from([b"a", b"b", b"ERROR", b"\n", b"\n\n", b"x\nERROR", b"\xff", b""])
CHUNKS = st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.lists(WORDS, min_size=1, max_size=4)), max_size=20)


def chunks_of(said: list[tuple[wire.LogStream.ValueType, list[bytes]]]) -> list[wire.LogChunk]:
    """Return a log."""
    return [
        wire.LogChunk(sequence=number, stream=stream, time_unix_nanos=number, data=b"".join(words))
        for number, (stream, words) in enumerate(said)
    ]


def expected(chunks: list[wire.LogChunk], stream: int) -> list[tuple[int, int, bytes]]:
    """Return a stream's lines with ERROR in them and where they begin, found byte by byte."""
    found, line, place = [], b"", (0, 0)
    for chunk in chunks:
        if chunk.stream != stream:
            continue
        for offset in range(len(chunk.data)):
            if not line:
                place = (chunk.sequence, offset)
            line += chunk.data[offset : offset + 1]
            if line.endswith(b"\n"):
                found.append((*place, line))
                line = b""
    if line:
        found.append((*place, line))
    return [each for each in found if b"ERROR" in each[2]]


def told(lines: list[wire.LogLine], stream: int) -> list[tuple[int, int, bytes]]:
    """Return what was told of a stream."""
    return [(line.sequence, line.offset, line.data) for line in lines if line.stream == stream]


@given(CHUNKS)
def test_every_line_that_matches_is_told_once(said: list[tuple[wire.LogStream.ValueType, list[bytes]]]) -> None:
    """However it was cut, whatever other streams say in between."""
    chunks = chunks_of(said)
    search = LineSearch(Pattern("ERROR"), {}, 0)
    lines = [line for chunk in chunks for line in search.take(chunk)]
    lines += search.finish()
    for stream in (OUT, ERR):
        assert told(lines, stream) == expected(chunks, stream)


@given(CHUNKS, st.integers(0, 20))
def test_a_search_goes_on_where_it_broke_off(
    said: list[tuple[wire.LogStream.ValueType, list[bytes]]], breaks: int
) -> None:
    """L05: none is lost and none is told twice, by the positions of the last message."""
    chunks = chunks_of(said)
    first = LineSearch(Pattern("ERROR"), {}, 0)
    lines = [line for chunk in chunks[:breaks] for line in first.take(chunk)]
    sequence, positions = read_positions(first.positions().positions)
    second = LineSearch(Pattern("ERROR"), positions, sequence)
    lines += [line for chunk in chunks[sequence:] for line in second.take(chunk)]
    lines += second.finish()
    for stream in (OUT, ERR):
        assert told(lines, stream) == expected(chunks, stream)


@given(CHUNKS, st.integers(0, 20))
def test_positions_of_positions_are_the_same(
    said: list[tuple[wire.LogStream.ValueType, list[bytes]]], breaks: int
) -> None:
    """A search that breaks before it has read anything has come no farther, and no less far."""
    first = LineSearch(Pattern("ERROR"), {}, 0)
    for chunk in chunks_of(said)[:breaks]:
        list(first.take(chunk))
    sequence, positions = read_positions(first.positions().positions)
    assert LineSearch(Pattern("ERROR"), positions, sequence).positions() == first.positions()


def test_a_line_without_end_is_searched_in_pieces() -> None:
    """What a search keeps in memory is bounded."""
    search = LineSearch(Pattern("x"), {}, 0)
    lines: list[wire.LogLine] = []
    for number in range(40):
        data = bytes(65535) + b"x"
        lines += search.take(wire.LogChunk(sequence=number, stream=OUT, data=data))
    lines += search.finish()
    assert b"".join(line.data for line in lines) == (bytes(65535) + b"x") * 40
    assert [line.partial for line in lines] == [True, True, False]
    assert max(len(line.data) for line in lines) <= MAX_LINE_BYTES + 65536


@pytest.mark.parametrize(
    ("pattern", "options", "data", "lines"),
    [
        ("^b$", {}, b"ab\nb\nbc\n", [b"b\n"]),
        ("^$", {}, b"a\n\nb\n", [b"\n"]),
        ("a.b", {"literal": True}, b"axb\na.b\n", [b"a.b\n"]),
        ("error", {"ignore_case": True}, b"ERROR\nErr\n", [b"ERROR\n"]),
        ("a.c", {"literal": True, "ignore_case": True}, b"A.C\nabc\n", [b"A.C\n"]),
        ("a[^x]c", {}, b"a\nc\n", []),
        ("a\\s*c", {}, b"a\nc\na c\n", [b"a c\n"]),
        ("b\\z", {}, b"ab", [b"ab"]),
        ("", {}, b"a\n\nb", [b"a\n", b"\n", b"b"]),
        ("(a*)*b", {}, b"a" * 60000 + b"\n", []),
    ],
)
def test_a_pattern_lies_within_a_line(pattern: str, options: dict[str, bool], data: bytes, lines: list[bytes]) -> None:
    """As with grep, in a time that is linear in what is read."""
    found = Pattern(pattern, **options).lines_in(data)
    assert [data[begin:end] for begin, end in found] == lines


@pytest.mark.parametrize("pattern", ["a(", "(?P<x", "a{3000}", "\\1", "(?=a)"])
def test_what_is_no_expression_is_refused_in_words(pattern: str) -> None:
    """With what is wrong, and without what was added to it."""
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)
    assert str(caught.value)
    assert "(?m)" not in str(caught.value)
