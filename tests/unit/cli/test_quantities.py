"""Durations, sizes and processors as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
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
    [("512", 512), ("10M", 10_000_000), ("64Mi", 64 << 20), ("2Gi", 2 << 30), ("1.5G", 1_500_000_000), ("4KiB", 4096)],
)
def test_sizes(text: str, size: int) -> None:
    """Powers of 1000 and of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "millis"), [("500m", 500), ("2", 2000), ("1.5", 1500), ("0", 0)])
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


@given(st.integers(0, 2**52))
def test_sizes_come_back_as_they_were_written(size: int) -> None:
    """To the byte."""
    assert parse_size(format_size(size)) == size
