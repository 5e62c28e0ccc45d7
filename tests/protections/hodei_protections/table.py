"""The whole table, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hodei_protections.bounds import BOUNDS
from hodei_protections.jobs import JOBS
from hodei_protections.kubernetes import KUBERNETES
from hodei_protections.logs import LOGS
from hodei_protections.processes import PROCESSES
from hodei_protections.protection import Protection
from hodei_protections.retention import RETENTION
from hodei_protections.s3 import S3
from hodei_protections.secrets import SECRETS
from hodei_protections.workers import WORKERS

#: On SQLite, local disk and processes.
CORE: tuple[Protection, ...] = tuple(
    sorted([*LOGS, *BOUNDS, *RETENTION, *SECRETS, *JOBS, *WORKERS, *PROCESSES], key=lambda each: each.id)
)
PROTECTIONS: tuple[Protection, ...] = (*CORE, *S3, *KUBERNETES)

#: The page that shows the tables, and what stands before each and behind it there.
PAGE = Path(__file__).parents[3] / "docs/reliability.md"
BEGIN = "<!-- made by `python -m hodei_protections --page` -->\n\n"
BEGIN_S3 = "<!-- made by the same, of S3 -->\n\n"
BEGIN_KUBERNETES = "<!-- made by the same, of Kubernetes -->\n\n"
END = "\n<!-- end of what is made -->\n"
TABLES: Mapping[str, Sequence[Protection]] = {BEGIN: CORE, BEGIN_S3: S3, BEGIN_KUBERNETES: KUBERNETES}


def write_page() -> None:
    """Bring the page up to date."""
    text = PAGE.read_text()
    for begin, protections in TABLES.items():
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(END)
        text = f"{before}{begin}{markdown(protections)}{END}{after}"
    PAGE.write_text(text)


def markdown(protections: Sequence[Protection]) -> str:
    """Return a table as docs/reliability.md has it."""
    lines = ["| id | promise | test | how it fails without |", "|---|---|---|---|"]
    for each in protections:
        path, *_, name = each.test.partition("[")[0].removeprefix("tests/").split("::")
        lines.append(f"| {each.id} | {each.promise} | `{path}`: `{name}` | {each.fails} |")
    return "\n".join(lines) + "\n"
