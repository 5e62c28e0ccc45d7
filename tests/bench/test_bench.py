"""A short run of the benches, for CI: fails only where an order of magnitude is lost beside the bare work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: The least share of the peer's speed, measured in the same run: a tenth of what docs/performance.md shows, and a short
#: run shows about the same. Those of decisions are a fifth, as nothing but their own work is in both.
FLOORS = {
    "log.running-to-end": 0.05,
    "jobs.finished": 0.012,
    "latency.warm-p50": 0.009,
    "decisions.flat": 0.2,
    "decisions-stored.flat": 0.2,
    "cli.help": 0.02,
    "cli.get": 0.05,
    "cli.run-first-line": 0.045,
}


@pytest.mark.timeout(900)
def test_no_order_of_magnitude_is_lost(tmp_path: Path) -> None:
    """Ratios, never times: this machine may be slow, or busy."""
    file = tmp_path / "result.json"
    names = ["log", "jobs", "latency", "cli", "decisions", "decisions-stored"]
    command = [sys.executable, "-m", "hodei_bench", "--short", "--json", str(file), "--only", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ratios = {result["name"]: result["ratio"] for result in json.loads(file.read_text())["results"]}
    assert {name: ratios[name] for name, floor in FLOORS.items() if ratios[name] < floor} == {}, done.stdout
