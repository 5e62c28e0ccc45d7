"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No test asserts on time: an example that is slow because the machine is busy is no finding.
settings.register_profile("hodei", deadline=None, print_blob=True)
settings.load_profile("hodei")
