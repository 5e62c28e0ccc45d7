"""What every provider's jobs and workers do, with pods."""

from __future__ import annotations

from hodei_faults.any_provider import AnyProvider


class TestJobsOfKubernetes(AnyProvider):
    provider = "kubernetes"
    folders = ("/tmp", "/dev/shm")
