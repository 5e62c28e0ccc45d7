"""What every provider's jobs and workers do, with processes."""

from __future__ import annotations

from hodei_faults.any_provider import AnyProvider


class TestJobsOfProcess(AnyProvider):
    provider = "process"
