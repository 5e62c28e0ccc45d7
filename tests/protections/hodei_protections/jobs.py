"""Protections of jobs, attempts and workers."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"

JOBS: tuple[Protection, ...] = ()
