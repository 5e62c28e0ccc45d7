"""What workers say of how their processes ended: what can be true, what is kept, what is answered."""

from __future__ import annotations

from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_server.domain.states import Cause

#: Characters of a worker's own words that are kept.
MAX_MESSAGE = 1024
#: What a protobuf Duration can hold.
MAX_CPU_SECONDS = 315_576_000_000
#: What a worker may say of how its process ended.
WORKER_CAUSES = frozenset(
    {
        Cause.EXIT_CODE,
        Cause.SIGNAL,
        Cause.EXEC_FAILED,
        Cause.OUT_OF_MEMORY,
        Cause.EVICTED,
        Cause.RUN_TIMEOUT,
        Cause.CANCELLED,
        Cause.WORKER_LOST,
    }
)


def wrong_in(result: wire.AttemptResult) -> str:
    """Return what no worker that is in order says of an ended process; empty when there is nothing."""
    cpu = result.cpu_time
    checks = {
        "its cause": result.cause not in {int(cause) for cause in WORKER_CAUSES},
        "its exit code": result.HasField("exit_code") and not 0 <= result.exit_code <= 255,
        "its signal": result.HasField("signal") and not 1 <= result.signal <= 64,
        "a cause without its figure": (
            (result.cause == types_wire.CAUSE_EXIT_CODE and not result.HasField("exit_code"))
            or (result.cause == types_wire.CAUSE_SIGNAL and not result.HasField("signal"))
        ),
        "a negative size": min(result.peak_memory_bytes, result.log_bytes) < 0,
        "its processor time": cpu.seconds < 0 or not 0 <= cpu.nanos < 1_000_000_000 or cpu.seconds > MAX_CPU_SECONDS,
        "its last sequence": result.next_sequence >= 1 << 63,
        "its checksum": len(result.log_checksum) != 32,
        "what only the server can know": result.final,
    }
    return next((what for what, wrong in checks.items() if wrong), "")


def printable(text: str) -> str:
    """Return what a worker says as one line that can be stored and shown."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_MESSAGE])


def result_ack(result: wire.AttemptResult) -> wire.ConnectResponse:
    """Return what tells a worker that it may forget an attempt."""
    return wire.ConnectResponse(result_ack=wire.ResultAck(attempt_uid=result.attempt_uid, epoch=result.epoch))


def same_outcome(first: wire.AttemptResult, second: wire.AttemptResult) -> bool:
    """Whether two results say the same of how the process and its log ended."""
    fields = ("cause", "exit_code", "signal", "next_sequence", "log_bytes", "log_checksum")
    return all(getattr(first, name) == getattr(second, name) for name in fields)
