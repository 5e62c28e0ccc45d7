"""Docker's own command, for accidents of containers and for what the engine reports of them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from typing import Any

import pytest


def docker(*arguments: str, stdin: bytes = b"", check: bool = True) -> str:
    """Run Docker's own command; return its output."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, timeout=100, check=False)
    assert not check or done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout.decode()


def inspect(name: str) -> dict[str, Any]:
    """Return what the engine reports of a container; empty when there is none."""
    text = docker("container", "inspect", name, check=False)
    found = json.loads(text or "[]")
    return dict(found[0]) if found else {}


def leftovers(label: str) -> list[str]:
    """Return the containers and volumes that carry a label."""
    return (
        docker("ps", "-aq", "--filter", f"label={label}").split()
        + docker("volume", "ls", "-q", "--filter", f"label={label}").split()
    )


def container_of(job: str) -> str:
    """Return the container of a job's attempt; empty when there is none."""
    return docker("ps", "-aq", "--filter", f"label=hodei.job={job}").strip()


def set_docker(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """Set the provider's variables."""
    for name, value in options.items():
        monkeypatch.setenv(f"HODEI_DOCKER_{name.upper()}", value)


def gateway() -> str:
    """Return the address of this machine that containers reach."""
    bridge = json.loads(docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"))[0]
    # An engine that has just made the network tells none: it is the first address.
    return str(bridge.get("Gateway") or ipaddress.ip_network(bridge["Subnet"])[1])
