"""L24: what a job writes can do nothing to a terminal but colour it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_cli.log_output import TerminalFilter

# Bytes that escapes are made of, far more often than chance would have them.
PIECES = st.sampled_from([
    b"\x1b", b"[", b"]", b"P", b"_", b"\\", b"\x07", b"0;", b"31", b"m", b"J", b"c", b"\xc2", b"\x9b", b"\x9d", b"\x90",
    b"\x00", b"\r", b"\n", b" ", b"text", b"\xc3\xa9", b"\x1b[31m", b"\x1b]52;c;aGk=\x07", b"\x1b[6n", b"\x1b[2J",
])  # fmt: skip
HARMLESS = re.compile(rb"\x1b\[[0-9;:]*m")


def show(*pieces: bytes) -> bytes:
    """Return what a terminal gets."""
    terminal = TerminalFilter()
    return b"".join(terminal.feed(piece) for piece in pieces)


@given(st.lists(PIECES, max_size=40))
def test_nothing_gets_through_but_colours(pieces: list[bytes]) -> None:
    """However the bytes are cut into chunks, also where what is taken out stood between two halves."""
    for shown in (show(*pieces), show(b"".join(pieces)), show(*(bytes([each]) for each in b"".join(pieces)))):
        rest = HARMLESS.sub(b"", shown)
        assert b"\x1b" not in rest
        assert not re.search(rb"\xc2[\x80-\x9f]", shown)
        assert not set(rest) & ({*range(0x20), 0x7F} - {0x08, 0x09, 0x0A, 0x0D})


@given(st.lists(st.text(st.characters(min_codepoint=0xA0, codec="utf-8") | st.sampled_from("abc \t\r\n")), max_size=9))
def test_text_is_left_as_it_is(lines: list[str]) -> None:
    """Any of it, however its characters are cut."""
    data = "".join(lines).encode()
    assert show(data + b"\n") == data + b"\n"
    assert show(*(bytes([each]) for each in data), b"\n") == data + b"\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m", b"\x1b[1;31mred\x1b[0m"),
        (b"50%\r100%\n", b"50%\r100%\n"),
        (b"a\x1b]0;title\x07b", b"ab"),
        (b"a\x1b]52;c;cm0gLXJm\x1b\\b", b"ab"),
        (b"a\x1b[6nb\x1b[cc", b"abc"),
        (b"a\x1b[2J\x1b[Hb", b"ab"),
        (b"a\x1bPq\x1b\\b", b"ab"),
        ("a\u009b6nb".encode(), b"a6nb"),
        (b"\xff\xfe\x80", b"\xff\xfe\x80"),
    ],
)
def test_what_each_kind_becomes(written: bytes, shown: bytes) -> None:
    """Colours and carriage returns stay; titles, the clipboard, reports and moves go; bytes that are no text stay."""
    assert show(written) == shown
    assert show(*(bytes([each]) for each in written)) == shown


def test_a_sequence_without_an_end_holds_nothing_back_for_ever() -> None:
    """L11: memory stays small, and the output goes on."""
    terminal = TerminalFilter()
    terminal.feed(b"\x1b]0;")
    for _ in range(20):
        terminal.feed(b"x" * 1000)
    assert terminal.feed(b"on\n").endswith(b"on\n")
    assert len(terminal._rest) <= 4096
