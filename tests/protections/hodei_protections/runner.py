"""Takes protections out of a copy of the tree, and runs the test that should notice; before that, the test as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
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
#: A test that hangs without its protection has noticed, too, if it is over well within this time with it.
TEST_SECONDS = 60
CONTROL_SECONDS = TEST_SECONDS / 2


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of a test came to.

    :param code: pytest's exit code; None when the run had to be ended.
    :param how: the line that says how it failed, or the last one.
    """

    code: int | None
    how: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the test was run, and passed: one that is skipped shows nothing."""
        return self.code == 0 and " passed" in self.how

    @property
    def hung(self) -> bool:
        """Whether it had to be ended."""
        return self.code is None or self.seconds >= TEST_SECONDS


def copy_tree(target: Path) -> None:
    """Copy what the project's tests need."""
    for name in (*sorted({folder.split("/")[0] for folder in FOLDERS}), "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)


def control(test: str, tree: Path) -> Outcome:
    """Run a test in the tree as it is."""
    try:
        return run_test(test, tree)
    finally:
        end_leftovers(tree)


def take_out(protection: Protection, tree: Path) -> Outcome | None:
    """Run a protection's test in a tree without it; the tree is as before afterwards.

    :return: None where what is to be taken out is not there once.
    """
    path = tree / protection.file
    before = path.read_text()
    if before.count(protection.present) != 1:
        return None
    path.write_text(before.replace(protection.present, protection.absent))
    try:
        return control(protection.test, tree)
    finally:
        path.write_text(before)


def judge(present: Outcome, absent: Outcome | None) -> tuple[bool, str]:
    """Return whether a test has noticed, and why one says so.

    :param present: the test in the tree as it is.
    :param absent: the test without the protection; None where that could not be taken out.
    """
    if not present.passed:
        return False, f"proves nothing: the test fails with the protection, too: {present.how}"
    if absent is None:
        return False, "what is to be taken out is not there once"
    if absent.hung and present.seconds > CONTROL_SECONDS:
        return False, f"proves nothing: it hangs, but takes {present.seconds:.0f} s with the protection, too"
    # 1: a test has failed. Anything else (no such test, a syntax error) shows nothing.
    return absent.code is None or absent.code == 1, absent.how


def end_leftovers(tree: Path) -> None:
    """Kill what a test that failed has left running: all that was told to import from the tree."""
    mark = f"PYTHONPATH={tree}/".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def run_test(test: str, tree: Path) -> Outcome:
    """Run one test on a tree's own code."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(str(tree / folder) for folder in FOLDERS)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}", "--rootdir", str(tree)]
    began = time.monotonic()
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
        return Outcome(None, "hangs", time.monotonic() - began)
    lines = done.stdout.splitlines()
    how = next((line[4:].strip() for line in lines if line.startswith("E   ")), lines[-1] if lines else "")
    return Outcome(done.returncode, how, time.monotonic() - began)
