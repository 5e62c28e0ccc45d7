"""The whole table, and how it is shown."""

from __future__ import annotations

from pathlib import Path

from hodei_protections.jobs import JOBS
from hodei_protections.logs import LOGS
from hodei_protections.processes import PROCESSES
from hodei_protections.protection import Protection
from hodei_protections.workers import WORKERS

PROTECTIONS: tuple[Protection, ...] = (*LOGS, *sorted([*JOBS, *WORKERS, *PROCESSES], key=lambda each: each.id))


#: The page that shows the table, and what stands before and behind it there.
PAGE = Path(__file__).parents[3] / "docs/reliability.md"
BEGIN = "<!-- made by `python -m hodei_protections --page` -->\n\n"
END = "\n<!-- end of what is made -->\n"


def write_page() -> None:
    """Bring the page up to date."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{markdown()}{END}{after}")


def markdown() -> str:
    """Return the table as docs/reliability.md has it."""
    lines = ["| id | promise | test | how it fails without |", "|---|---|---|---|"]
    for each in PROTECTIONS:
        path, *_, name = each.test.removeprefix("tests/").partition("[")[0].split("::")
        lines.append(f"| {each.id} | {each.promise} | `{path}`: `{name}` | {each.fails} |")
    return "\n".join(lines) + "\n"
