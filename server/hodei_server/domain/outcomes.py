"""What people are told of how an attempt ended. Pure."""

from __future__ import annotations

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2 as worker_wire
from hodei_server.domain.states import Cause, JobState


def outcome_of(result: worker_wire.AttemptResult, state: JobState) -> wire.Outcome:
    """Return what people are told of a result."""
    outcome = wire.Outcome(
        state=wire.JobState.ValueType(int(state)),
        cause=result.cause,
        message=result.message or _sentence(result),
        peak_memory_bytes=result.peak_memory_bytes,
    )
    if result.HasField("exit_code"):
        outcome.exit_code = result.exit_code
    if result.HasField("signal"):
        outcome.signal = result.signal
    if result.HasField("cpu_time"):
        outcome.cpu_time.CopyFrom(result.cpu_time)
    return outcome


def _sentence(result: worker_wire.AttemptResult) -> str:
    if result.HasField("exit_code"):
        return f"Exited with code {result.exit_code}"
    if result.HasField("signal"):
        return f"Ended by signal {result.signal}"
    return Cause(result.cause).name.replace("_", " ").capitalize()
