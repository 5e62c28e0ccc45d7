"""The whole table, and how it is shown."""

from __future__ import annotations

from hodei_protections.jobs import JOBS
from hodei_protections.logs import LOGS
from hodei_protections.processes import PROCESSES
from hodei_protections.protection import Protection
from hodei_protections.workers import WORKERS

PROTECTIONS: tuple[Protection, ...] = (*LOGS, *sorted([*JOBS, *WORKERS, *PROCESSES], key=lambda each: each.id))


def markdown() -> str:
    """Return the table as docs/reliability.md has it."""
    lines = ["| id | promise | test | how it fails without |", "|---|---|---|---|"]
    for each in PROTECTIONS:
        path, _, name = each.test.removeprefix("tests/").partition("::")
        lines.append(f"| {each.id} | {each.promise} | `{path}`: `{name}` | {each.fails} |")
    return "\n".join(lines) + "\n"
