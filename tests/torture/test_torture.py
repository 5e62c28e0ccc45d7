"""A short run of the kill tests; `just soak` makes longer ones."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_left_running() -> None:
    """L01, L04, L05, L28, W11, W14, W26, W35: whatever dies, and whenever."""
    path = Path(__file__).with_name("torture.py")
    spec = importlib.util.spec_from_file_location("torture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by its name.
    sys.modules["torture"] = module
    spec.loader.exec_module(module)
    seed = int(os.environ.get("HODEI_TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
    assert module.run(seed, float(os.environ.get("HODEI_TORTURE_SECONDS") or 20.0)) == []
