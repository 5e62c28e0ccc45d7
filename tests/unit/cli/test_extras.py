"""A package that is not installed is told with the extra that brings it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

SCRIPT = """
import sys
sys.modules[sys.argv[1]] = None
from hodei_cli.commands import run_cli
run_cli(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("sqlalchemy", ["server"], "server"),
        ("sqlalchemy", ["db", "current"], "server"),
        ("pydantic_settings", ["config", "show"], "server"),
        ("sqlalchemy", ["run", "--local", "--", "true"], "server"),
        ("pydantic_settings", ["logs", "lifecycle-rule"], "server"),
        ("pydantic_settings", ["k8s", "manifests", "--provider", "kubernetes"], "server"),
        ("yaml", ["k8s", "manifests"], "cli"),
        ("grpc_health.v1", ["health"], "cli"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_missing_package_is_told_with_the_extra_that_has_it(missing: str, command: list[str], extra: str) -> None:
    """Whichever command needs it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, missing, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 125, done.stderr
    said = rf"hodei: 'hodei {command[0]}' needs {missing}[.\w]*: pip install 'hodei-jobs\[{extra}\]'\n"
    assert re.fullmatch(said, done.stderr)
