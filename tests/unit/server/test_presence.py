"""How a server knows that it was not there."""

from __future__ import annotations

from hodei_server.loops.presence import Presence

SECOND = 10**9


def test_a_stop_is_noticed_by_whoever_asks_first() -> None:
    """L18: what counts is the time since the server went on; short gaps are no stop."""
    now = 0
    presence = Presence(lambda: now)
    for _ in range(100):
        now += SECOND // 2
        presence.tick()
    now += SECOND
    assert presence.seconds() == 51.0
    now += 3600 * SECOND
    assert presence.seconds() == 0.0
    now += SECOND
    assert presence.seconds() == 1.0
