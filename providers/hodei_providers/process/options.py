"""How the process provider's options are read."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from hodei_providers.config import amount, pairs, positive, words

#: What reads each option; it raises ValueError on what it can't read.
READERS: Mapping[str, Callable[[str], object]] = {
    "max_workers": positive,
    "labels": pairs,
    "regions": words,
    "cost_per_hour": amount,
    "worker_command": shlex.split,
}
