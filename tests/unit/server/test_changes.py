"""Waiting for something to move."""

from __future__ import annotations

import asyncio

from hodei_server.logs.changes import ChangesByKey, wait_for


async def test_a_move_wakes_all_who_wait_for_its_key_and_nobody_else() -> None:
    """Any number, of any key; what moves later is another move."""
    changes = ChangesByKey()
    first, same, other = changes.next_move("a"), changes.next_move("a"), changes.next_move("b")
    waiting = asyncio.create_task(wait_for(first, None))
    changes.moved("a")
    assert await waiting
    assert same.done()
    assert not other.done()
    assert not changes.next_move("a").done()


async def test_who_looked_and_left_is_not_remembered() -> None:
    """L08, L10: every watch of an ended job, and every follow of an unknown one, looks once."""
    changes = ChangesByKey()
    for number in range(1000):
        changes.next_move(f"job {number}")
    held = changes.next_move("waited for")
    assert len(changes) == 1
    changes.moved("waited for")
    assert held.done()
    assert len(changes) == 0
