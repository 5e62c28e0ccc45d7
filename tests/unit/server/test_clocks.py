"""The clocks' patience with workers whose log can't be written."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hodei_server.loops.clocks import _log_held_up

#: Seconds.
MARGIN, LONG = 30.0, 1000.0


@pytest.mark.parametrize(
    ("writable", "session", "held_up"),
    [
        # Seconds ago: since when the log can be written again, when the worker has connected, when it was heard last.
        (None, None, False),
        (-math.inf, None, True),
        (-math.inf, (LONG, 0), True),
        (1, None, True),
        (LONG, None, False),
        (1, (LONG, 0), True),
        (LONG, (2 * LONG, 1), False),
        (MARGIN + 5, (10, 0), True),
        # It comes and goes, long after.
        (LONG, (10, 0), False),
        (LONG, (1, 0), False),
    ],
)
def test_a_worker_is_spared_while_the_server_may_hold_it_up_and_no_longer(
    writable: float | None, session: tuple[float, float] | None, *, held_up: bool
) -> None:
    """L01, W05: a log that failed once, and has long been written again, keeps no job from its end."""
    now = time.monotonic()
    live: Any = SimpleNamespace(log=SimpleNamespace(writable_since=0.0 if writable is None else now - writable))
    there: Any = session and SimpleNamespace(began_at=now - session[0], heard_at=now - session[1])
    assert _log_held_up(live, there, MARGIN) is held_up
