"""What the engine tells of a container, in the contract's words: pure functions of its answers."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from hodei_providers.contract import Description, ExitReason, Handle, WorkerPhase
from hodei_providers.description import signal_name
from hodei_providers.docker.spec import WORKER_LABEL

#: Exit codes above this tell of the signal that ended the first process.
SIGNAL_BASE = 128


def handle_of(worker_id: str, container_id: str) -> Handle:
    """Return what names a container."""
    return Handle(worker_id, {"container": container_id})


def describe_container(inspected: Mapping[str, Any]) -> Description:
    """Describe a worker by what the engine says of its container."""
    state = inspected["State"]
    handle = handle_of(inspected["Config"]["Labels"].get(WORKER_LABEL, ""), inspected["Id"])
    status = state.get("Status", "")
    if status == "created" and not state.get("Error"):
        return Description(handle, WorkerPhase.MISSING, message="its container was made and never started")
    if status in {"running", "paused", "restarting"}:
        return Description(handle, WorkerPhase.RUNNING, message=f"its container is {status}")
    code, text = int(state.get("ExitCode", 0)), str(state.get("Error", ""))
    if state.get("OOMKilled") and code != 0:
        message = f"its container was out of memory{_suffix(text)}"
        return Description(handle, WorkerPhase.EXITED, None, None, ExitReason.OUT_OF_MEMORY, message)
    number = code - SIGNAL_BASE
    if 0 < number <= signal.NSIG and not text:
        message = f"its container was ended by signal {signal_name(number)}"
        return Description(handle, WorkerPhase.EXITED, None, number, ExitReason.SIGNALLED, message)
    message = f"its container exited with code {code}{_suffix(text)}"
    return Description(handle, WorkerPhase.EXITED, code, None, ExitReason.EXITED, message)


def _suffix(text: str) -> str:
    return f": {text}" if text else ""


def state_line(inspected: Mapping[str, Any]) -> str:
    """Return one line on a container's state, for people."""
    state = inspected["State"]
    parts = [f"container {inspected['Id'][:12]}: {state.get('Status', 'unknown')}"]
    if state.get("Status") in {"exited", "dead"}:
        parts.append(f"exit code {state.get('ExitCode')}")
    if state.get("OOMKilled"):
        parts.append("out of memory")
    if state.get("Error"):
        parts.append(str(state["Error"]))
    return ", ".join(parts)


def event_line(event: Mapping[str, Any]) -> str:
    """Return one line on an event of a container, for people."""
    attributes = event.get("Actor", {}).get("Attributes", {})
    figures = [f"{key} {attributes[key]}" for key in ("exitCode", "signal") if key in attributes]
    return f"event: {event.get('Action', '?')}" + (f" ({', '.join(figures)})" if figures else "")
