"""What becomes of a test that runs into its time limit, and of those after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

#: A test that waits for ever, and is struck by its limit once it does; beside it a task such as gRPC's servers have.
PROGRAM = """
import asyncio
import pathlib
import signal


async def test_hangs():
    beside = asyncio.create_task(asyncio.Event().wait())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        await asyncio.Event().wait()
    finally:
        pathlib.Path("told").write_text(f"cancelled beside it: {beside.cancelling()}")
"""


def test_a_test_that_runs_into_its_limit_ends_before_what_it_has_beside_it(tmp_path: Path) -> None:
    """Else gRPC's servers lose their tasks before they are stopped, and the interpreter may crash as they are."""
    (tmp_path / "test_it.py").write_text(PROGRAM)
    options = ["-q", "-p", "conftest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--timeout=60"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_it.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert b"from pytest-timeout" in done.stdout
    assert (tmp_path / "told").read_text() == "cancelled beside it: 0"
