"""The simulation that docs/placement.md shows."""

from __future__ import annotations

import pytest

from hodei_bench.simulation import PICTURE, published


@pytest.mark.timeout(300)
def test_the_published_table_and_picture_are_what_the_placing_code_comes_to() -> None:
    """Nobody draws them by hand: python -m hodei_bench.simulation, and its table goes to the page."""
    picture, table = published()
    assert picture == PICTURE.read_text()
    assert table in PICTURE.with_suffix(".md").read_text()
