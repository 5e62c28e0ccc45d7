"""Who calls, and in which trace: known to everything that happens during a call."""

from __future__ import annotations

import contextvars
import re
import secrets

ANONYMOUS = "anonymous"

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

_principal: contextvars.ContextVar[str] = contextvars.ContextVar("principal", default=ANONYMOUS)
_traceparent: contextvars.ContextVar[str] = contextvars.ContextVar("traceparent", default="")


def current_principal() -> str:
    """Return who calls: `anonymous`, or the name in the client's certificate."""
    return _principal.get()


def current_traceparent() -> str:
    """Return the W3C trace context of the call."""
    return _traceparent.get()


def enter(principal: str, traceparent: str) -> None:
    """Note who calls, for the rest of this task."""
    _principal.set(principal)
    _traceparent.set(traceparent)


def accept_traceparent(text: str) -> str:
    """Return a caller's trace context, or a new one where it has none that can be read."""
    match = _TRACEPARENT.fullmatch(text)
    if match and set(match[1]) != {"0"} and set(match[2]) != {"0"}:
        return text
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id_of(traceparent: str) -> str:
    """Return the part of a trace context that all calls of a trace share."""
    return traceparent.split("-")[1] if traceparent.count("-") == 3 else ""
