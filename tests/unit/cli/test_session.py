"""How commands run their work."""

from __future__ import annotations

import asyncio

import pytest

from hodei_cli.session import run_interruptible


async def work() -> str:
    """Return something."""
    return "done"


def test_commands_run_where_event_loops_have_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""

    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refuse)
    assert run_interruptible(work()) == "done"
