"""What containers and folders of a worker's pod are called."""

from __future__ import annotations

CONTAINER, AGENT_CONTAINER = "worker", "agent"
#: Where the init container has the volume that it copies the agent to.
AGENT_TARGET = "/agent"
HOME = "/home/hodei"
#: Every pod has these for itself.
SCRATCH = ("/tmp", "/dev/shm", HOME)  # noqa: S108 - see above
#: Where the worker keeps its jobs' folders and what overflows of their logs.
FOLDER = "/var/lib/hodei-worker"
#: Where the worker finds its token, and whom it trusts.
CREDENTIALS, TRUST = "/run/hodei/credentials", "/run/hodei/trust"
TOKEN, AUTHORITY = "token", "ca.crt"
#: How the names of Hodei's own volumes begin.
VOLUME_PREFIX = "hodei-"
