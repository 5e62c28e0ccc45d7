"""The account can tell: what is missing, doubled or changed is noticed."""

from __future__ import annotations

import pytest

from hodei_torture.reading import Reading, output

EXPECTED = output(200)


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
