"""What is printed: tables for people, JSON for programs. Data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hodei.quantities import format_duration
from hodei.v1 import types_pb2 as wire

F = TypeVar("F", bound=Callable[..., Any])

_COLOURS = {"succeeded": "green", "failed": "red", "timed_out": "red", "cancelled": "yellow", "running": "cyan"}

output_option: Callable[[F], F] = click.option(
    "--output", "-o", type=click.Choice(["table", "json"]), default="table", help="For people, or for programs."
)


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it, its fields by their names in the .proto files."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def print_json(value: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print JSON on one line: one of many, each to be read as it comes."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns' names, as wide as they need to be."""
    table = [list(columns), *[[plain(cell) for cell in row] for row in rows]]
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and use_colour(sys.stdout):
            cells = [click.style(cell, fg=_COLOURS.get(cell.strip())) for cell in cells]
        click.echo("  ".join(cells).rstrip())


def plain(text: str) -> str:
    """Return text that can do nothing to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def use_colour(stream: Any) -> bool:
    """Whether colours are wanted and can be shown."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def state_name(state: int) -> str:
    """Return a job's state as people write it."""
    return wire.JobState.Name(wire.JobState.ValueType(state)).removeprefix("JOB_STATE_").lower()


def cause_name(cause: int) -> str:
    """Return a cause as people write it; empty for none."""
    return wire.Cause.Name(wire.Cause.ValueType(cause)).removeprefix("CAUSE_").lower() if cause else ""


def when(moment: Timestamp) -> str:
    """Return a time in this place's time zone."""
    if not moment.seconds:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment.seconds))


def lasted(job: wire.Job) -> str:
    """Return how long a job has run, or did."""
    if not job.HasField("start_time"):
        return ""
    end = job.end_time.ToNanoseconds() if job.HasField("end_time") else time.time_ns()
    seconds = max(end - job.start_time.ToNanoseconds(), 0) / 1e9
    return f"{seconds:.1f}s" if seconds < 59.95 else format_duration(round(seconds))


def exit_code_of(outcome: wire.Outcome) -> int:
    """Return what `run` and `wait` exit with."""
    if outcome.state == wire.JOB_STATE_SUCCEEDED:
        return 0
    if outcome.state == wire.JOB_STATE_TIMED_OUT:
        return 124
    if outcome.state == wire.JOB_STATE_CANCELLED:
        return 130
    if outcome.cause in {wire.CAUSE_EXIT_CODE, wire.CAUSE_EXEC_FAILED} and outcome.HasField("exit_code"):
        return outcome.exit_code
    if outcome.HasField("signal"):
        return 128 + outcome.signal
    if outcome.HasField("exit_code") and outcome.exit_code:
        return outcome.exit_code
    return 125


def command_of(spec: wire.JobSpec) -> str:
    """Return a job's command on one line."""
    if spec.HasField("script"):
        return "(script)"
    text = " ".join(spec.argv)
    return text if len(text) <= 50 else text[:47] + "..."
