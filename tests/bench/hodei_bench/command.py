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

GROUPS = ("logs", "jobs", "lines", "history", "seek", "commands", "followers", "fleet")


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


def run_one(each: Registered, durability: str, known: dict[str, float], *, short: bool) -> list[Result]:
    """Run one bench in a folder of its own; return its results."""
    with tempfile.TemporaryDirectory(prefix="hodei-bench-") as folder:
        setup = Setup(short=short, durability=durability, folder=Path(folder), known=known)

        async def run() -> Sequence[Result]:
            return await each.run(setup)

        results = [dataclasses.replace(result, durability=durability) for result in asyncio.run(run())]
    known.update({result.name: result.figure for result in results})
    return results


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run benches; a table at the end tells the figures.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(BENCHES), help=", ".join(BENCHES))
    parser.add_argument("--short", action="store_true", help="smaller sizes: a smoke test, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--durability", choices=("power", "process", "both"), default="power")
    return parser.parse_args(given)


def end(number: int, frame: object) -> None:  # noqa: ARG001 - what signal handlers are given
    """End, but not without ending what was started."""
    sys.exit(128 + number)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benches; return 1 when one of them failed."""
    for group in GROUPS:
        importlib.import_module(f"hodei_bench.{group}")
    options = arguments_of(given)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    signal.signal(signal.SIGTERM, end)
    # Of the processes that the benches start, too.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    about = machine()
    results: list[Result] = []
    failures: dict[str, str] = {}
    modes = ["power", "process"] if options.durability == "both" else [options.durability]
    for each in BENCHES.values():
        if options.only and each.name not in options.only:
            continue
        for durability in modes if each.durable else modes[:1]:
            known = {result.name: result.figure for result in results if result.durability == durability}
            began = time.monotonic()
            try:
                results += run_one(each, durability, known, short=options.short)
            except Exception as error:  # noqa: BLE001 - the other benches go on
                failures[f"{each.name} ({durability})"] = repr(error)
                traceback.print_exc()
            sys.stderr.write(f"{each.name} ({durability}): {time.monotonic() - began:.0f} s\n")
    sys.stdout.write(table(results) + "\n")
    for name, text in failures.items():
        sys.stdout.write(f"FAILED: {name}: {text}\n")
    if options.json is not None:
        document = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "machine": about,
            "short": options.short,
            "durability": modes,
            "results": [result.as_json() for result in results],
            "failures": failures,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if failures else 0
