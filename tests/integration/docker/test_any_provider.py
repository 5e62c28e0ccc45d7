"""What every provider's jobs and workers do, with containers."""

from __future__ import annotations

from hodei_faults.any_provider import AnyProvider


class TestJobsOfDocker(AnyProvider):
    provider = "docker"
    folders = ("/tmp", "/dev/shm")
