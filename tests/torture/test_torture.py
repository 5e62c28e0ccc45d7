"""Two minutes of the kill tests; `just soak` makes longer runs."""

from __future__ import annotations

import os
import random

import pytest

from hodei_torture import run

#: A laptop's run of all tests is not held up by more than this; CI takes the time it needs.
SECONDS = 120.0 if os.environ.get("CI") else 20.0


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_left_running() -> None:
    """L01, L04, L05, L28, W11, W14, W18, W26, W35: whatever dies or breaks, and whenever."""
    seed = int(os.environ.get("HODEI_TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
    assert run(seed, float(os.environ.get("HODEI_TORTURE_SECONDS") or SECONDS)) == []
