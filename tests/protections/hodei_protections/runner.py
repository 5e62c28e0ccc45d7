"""Takes protections out of a copy of the tree, and runs the test that should notice."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from hodei_protections.protection import Protection

ROOT = Path(__file__).parents[3]
FOLDERS = (
    "proto",
    "logstore",
    "providers",
    "server",
    "worker",
    "client",
    "cli",
    "migrations",
    "tests/faults",
    "tests/torture",
    "tests/protections",
)
#: A test that hangs without its protection has noticed, too.
TEST_SECONDS = 60


def copy_tree(target: Path) -> None:
    """Copy what the project's tests need."""
    for name in (*sorted({folder.split("/")[0] for folder in FOLDERS}), "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)


def take_out(protection: Protection, tree: Path) -> tuple[bool, str]:
    """Run a protection's test in a tree without it; the tree is as before afterwards.

    :return: whether the test failed, and the line that says how.
    """
    path = tree / protection.file
    before = path.read_text()
    if before.count(protection.present) != 1:
        return False, f"{protection.file} has what is to be taken out {before.count(protection.present)} times"
    path.write_text(before.replace(protection.present, protection.absent))
    try:
        return run_test(protection.test, tree)
    finally:
        path.write_text(before)
        end_leftovers(tree)


def end_leftovers(tree: Path) -> None:
    """Kill what a test that failed has left running: all that was told to import from the tree."""
    mark = f"PYTHONPATH={tree}/".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def run_test(test: str, tree: Path) -> tuple[bool, str]:
    """Run one test on a tree's own code; return whether it failed, and how."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(str(tree / folder) for folder in FOLDERS)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}", "--rootdir", str(tree)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, test],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return True, "hangs"
    lines = done.stdout.splitlines()
    how = next((line[4:].strip() for line in lines if line.startswith("E   ")), lines[-1] if lines else "")
    # 1: a test has failed. Anything else (no such test, a syntax error) shows nothing.
    return done.returncode == 1, how
