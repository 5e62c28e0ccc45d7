"""Durations, sizes and processors as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hodei.quantities import format_duration, format_size, parse_cpu, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("7d", 604800), ("1.5h", 5400), ("90", 90), ("0", 0), (" 2M ", 120)],
)
def test_durations(text: str, seconds: float) -> None:
    """With units, without one (seconds), and several together."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("10M", 10_000_000),
        ("64Mi", 64 << 20),
        ("2Gi", 2 << 30),
        ("1.5G", 1_500_000_000),
        ("4KiB", 4096),
        ("1.001M", 1_001_000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Powers of 1000 and of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "millis"), [("500m", 500), ("2", 2000), ("1.5", 1500), ("1.001", 1001), ("0", 0)])
def test_processors(text: str, millis: int) -> None:
    """In thousandths or in whole ones."""
    assert parse_cpu(text) == millis


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 parsecs", "1e400", "nan", "inf", "s", "1s2", "200000d"])
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    """In one line."""
    with pytest.raises(ValueError, match="write 90s, 5m, 1h30m or 7d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "lots", "-1", "1.5", "2GiX", "nan", "9999999P"])
def test_what_is_no_size_says_how_to_write_one(text: str) -> None:
    """Half a byte is none, either."""
    with pytest.raises(ValueError, match="write 512Mi, 2Gi or 10M"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "two", "-1", "0.0001", "nan", "inf", "m"])
def test_what_is_no_number_of_processors_says_how_to_write_one(text: str) -> None:
    """Less than a thousandth is none, either."""
    with pytest.raises(ValueError, match=r"write 2, 1\.5 or 500m"):
        parse_cpu(text)


@given(st.integers(0, 10**12))
def test_durations_come_back_as_they_were_written(milliseconds: int) -> None:
    """W40: to the millisecond."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 2**63 - 1))
def test_sizes_come_back_as_they_were_written(size: int) -> None:
    """To the byte."""
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 10**15))
def test_no_duration_is_written_as_nothing(nanoseconds: int) -> None:
    """W40: what is shorter than a millisecond neither."""
    assert parse_duration(format_duration(nanoseconds / 1e9)) > 0


@given(st.integers(0, 2**31 - 1))
def test_processors_come_back_as_they_were_written(millis: int) -> None:
    """In whole ones with a fraction, as in thousandths."""
    assert parse_cpu(f"{millis}m") == millis
    assert parse_cpu(f"{millis // 1000}.{millis % 1000:03d}") == millis


@given(st.integers(0, 2**33), st.sampled_from([("k", 3), ("M", 6), ("G", 9)]))
def test_a_fraction_of_a_unit_is_exact(size: int, unit: tuple[str, int]) -> None:
    """To the byte: no number is refused for how machines keep fractions."""
    letter, digits = unit
    assert parse_size(f"{size // 10**digits}.{size % 10**digits:0{digits}d}{letter}") == size


#: What quantities are made of, and what has no place in them.
PIECES = st.lists(
    st.sampled_from(
        ["1", "0", "9" * 20, ".", "-", "+", "e", "_", "n", "nan", "inf", "m", "s", "ms", "Ki", "G", "B", " "]
    )
    | st.text(max_size=2),
    max_size=6,
).map("".join)


@given(PIECES | st.text())
@example("9" * 5000)
@example("sNaN")
@example("1e999999999999999999999")
def test_any_text_is_a_quantity_or_an_error_that_says_how_to_write_one(text: str) -> None:
    """Nothing else ever comes of it."""
    for parse in (parse_duration, parse_size, parse_cpu):
        try:
            value = parse(text)
        except ValueError as error:
            assert "write" in str(error)  # noqa: PT017 - or it is one
        else:
            assert 0 <= value < 2**63
