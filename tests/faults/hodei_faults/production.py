"""What docs/kubernetes.md has for production, as it stands there: an example, and a checklist."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"


def production_variables() -> dict[str, str]:
    """Return the example's settings, by variable."""
    block = PAGE.read_text().split("## In production")[1].split("```sh\n")[1].split("```")[0]
    return dict(line.split("=", 1) for line in block.splitlines())


def production_checklist() -> dict[str, str]:
    """Return what covers each line of the checklist, by what it is to see to."""
    table = PAGE.read_text().split("| before it counts | covered by |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [row.strip("| ").partition(" | ") for row in table.splitlines()]
    return {need: covered for need, _, covered in rows}
