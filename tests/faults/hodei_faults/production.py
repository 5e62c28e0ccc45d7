"""The example of docs/kubernetes.md for production, as it stands there."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"


def production_variables() -> dict[str, str]:
    """Return the example's settings, by variable."""
    block = PAGE.read_text().split("## In production")[1].split("```sh\n")[1].split("```")[0]
    return dict(line.split("=", 1) for line in block.splitlines())
