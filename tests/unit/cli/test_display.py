"""How figures are shown to people."""

from __future__ import annotations

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_cli.display import lasted


@pytest.mark.parametrize(
    ("millis", "shown"), [(0, "0.0s"), (6_900, "6.9s"), (59_940, "59.9s"), (59_990, "1m"), (3_725_400, "1h2m5s")]
)
def test_how_long_a_job_ran_is_as_exact_as_one_reads(millis: int, shown: str) -> None:
    """Tenths of seconds within a minute, whole seconds beyond."""
    job = wire.Job()
    job.start_time.FromMilliseconds(1_000_000)
    job.end_time.FromMilliseconds(1_000_000 + millis)
    assert lasted(job) == shown
