"""How the process provider's options are read."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping


def _labels(text: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not separator or not key.strip() for key, separator, _ in pairs):
        raise ValueError("write key=value,key=value")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("it is at least 1")
    return number


#: What reads each option; it raises ValueError on what it can't read.
READERS: Mapping[str, Callable[[str], object]] = {
    "max_workers": _positive,
    "labels": _labels,
    "regions": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    "cost_per_hour": float,
    "worker_command": shlex.split,
}
