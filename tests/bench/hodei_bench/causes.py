"""Where the time goes where an aim is not reached, and what would be needed; by the beginning of a figure's name."""

from __future__ import annotations

CAUSES: dict[str, str] = {}
