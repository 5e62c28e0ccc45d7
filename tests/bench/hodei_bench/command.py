"""The command: which benches run, what becomes of their results."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import importlib
import json
import os
import platform
import resource
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hodei_bench.harness import BENCHES, Registered, Result, Setup, table
from hodei_bench.later import added
from hodei_bench.page import page
from hodei_bench.profile import Profile, Profiler
from hodei_bench.profile_page import write_profiles

#: Seconds after which a bench is given up, and the next one has its turn.
BENCH_SECONDS = 600.0
#: The same of one that runs only where it is named.
NAMED_SECONDS = 3600.0
GROUPS = (
    "logs",
    "jobs",
    "lines",
    "history",
    "retention",
    "seek",
    "commands",
    "followers",
    "fleet",
    "decisions",
    "stored_decisions",
    "docker",
    "kubernetes",
    "archive",
    "places",
    "large",
    "redaction",
)


def machine() -> dict[str, Any]:
    """Return the machine's class and what runs on it, nothing that names it."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpus": os.cpu_count(),
        "cpu_model": models[0] if models else platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: version(name) for name in ("hodei-jobs", "grpcio", "protobuf", "sqlalchemy")},
        "load_before": round(os.getloadavg()[0], 2),
    }


def run_one(
    each: Registered, durability: str, known: dict[str, float], *, short: bool, profiles: list[Profile] | None = None
) -> list[Result]:
    """Run one bench in a folder of its own; return its results.

    :param profiles: takes those that the bench makes; None when none are wanted.
    """
    with tempfile.TemporaryDirectory(prefix="hodei-bench-") as folder:
        profiler = Profiler(Path(folder)) if profiles is not None else None
        setup = Setup(short=short, durability=durability, folder=Path(folder), known=known, profiler=profiler)

        async def run() -> Sequence[Result]:
            async with asyncio.timeout(NAMED_SECONDS if each.named else BENCH_SECONDS):
                return await each.run(setup)

        found = asyncio.run(run())
        if profiles is not None and profiler is not None:
            profiles += [dataclasses.replace(profile, durability=durability) for profile in profiler.profiles]
    return [dataclasses.replace(result, durability=durability, bench=each.name) for result in found]


class Run:
    """One run of benches and what came of it.

    :ivar failures: by the name of the bench and its durability.
    :ivar profiles: of the benches that make some; None when none are wanted.
    """

    def __init__(self, about: dict[str, Any], modes: Sequence[str], *, short: bool, profile: bool = False) -> None:
        self.results: list[Result] = []
        self.profiles: list[Profile] | None = [] if profile else None
        self.failures: dict[str, str] = {}
        self._about = about
        self._date = dt.datetime.now(dt.UTC)
        self._modes = list(modes)
        self._short = short
        self._seconds: dict[str, float] = {}

    def take(self, each: Registered, durability: str) -> None:
        """Run one bench; when it fails this is noted, and the others go on."""
        known = {result.name: result.figure for result in self.results if result.durability == durability}
        name = f"{each.name} ({durability})"
        # What the one before has written must not be what this one waits for.
        os.sync()
        began = time.monotonic()
        try:
            self.results += run_one(each, durability, known, short=self._short, profiles=self.profiles)
        except Exception as error:  # noqa: BLE001 - the other benches go on
            self.failures[name] = repr(error)
            traceback.print_exc()
        self._seconds[name] = round(time.monotonic() - began, 1)
        sys.stderr.write(f"{name}: {self._seconds[name]:.0f} s\n")

    def as_json(self) -> dict[str, Any]:
        """Return everything, for a file."""
        return {
            "date": self._date.isoformat(timespec="seconds"),
            "machine": self._about,
            "short": self._short,
            "durability": self._modes,
            "titles": {each.name: each.title for each in BENCHES.values()},
            "results": [result.as_json() for result in self.results],
            "failures": self.failures,
            "seconds": self._seconds,
        }


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run benches; a table at the end tells the figures.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(BENCHES), help=", ".join(BENCHES))
    parser.add_argument("--short", action="store_true", help="smaller sizes: a smoke test, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--add", type=Path, metavar="FILE", help="put the results into that of an earlier run")
    parser.add_argument(
        "--durability", choices=("power", "process", "both"), help="of what depends on it [both, of --short power]"
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FOLDER",
        help="tell where the processor time goes: profile.json and profile.md in that folder; needs py-spy and the "
        "right to look into processes; the rates of such a run mean nothing",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="run nothing; print the page of such a file")
    return parser.parse_args(given)


def end(number: int, frame: object) -> None:  # noqa: ARG001 - what signal handlers are given
    """End, but not without ending what was started."""
    sys.exit(128 + number)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benches; return 1 when one of them failed."""
    for group in GROUPS:
        importlib.import_module(f"hodei_bench.{group}")
    options = arguments_of(given)
    if options.markdown is not None:
        sys.stdout.write(page(json.loads(options.markdown.read_text())))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    signal.signal(signal.SIGTERM, end)
    # Of the processes that the benches start, too.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    one = options.short or options.profile is not None
    wanted = options.durability or ("power" if one else "both")
    modes = ["power", "process"] if wanted == "both" else [wanted]
    run = Run(machine(), modes, short=options.short, profile=options.profile is not None)
    for each in BENCHES.values():
        if each.name not in options.only if options.only else each.named:
            continue
        for durability in modes if each.durable else modes[:1]:
            run.take(each, durability)
            if options.json is not None:
                # After each, so that a run that is cut short leaves what it has.
                options.json.write_text(json.dumps(run.as_json(), indent=2) + "\n")
    sys.stdout.write(table(run.results) + "\n")
    if options.add is not None:
        document = added(json.loads(options.add.read_text()), run.as_json())
        options.add.write_text(json.dumps(document, indent=2) + "\n")
    if options.profile is not None and run.profiles is not None:
        write_profiles(options.profile, run.as_json(), run.profiles)
    for name, text in run.failures.items():
        sys.stdout.write(f"FAILED: {name}: {text}\n")
    return 1 if run.failures else 0
