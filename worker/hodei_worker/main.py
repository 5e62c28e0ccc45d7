"""The worker's command line."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# gRPC must not meddle with the forks that start jobs (W23); it reads this when it is first imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import hodei
from hodei_worker.health import check_health
from hodei_worker.settings import WorkerSettingsError, read_settings, scrub_environment

_EXTRA = ("job_id", "attempt_uid", "trace_id", "pid")


class _Format(logging.Formatter):
    """A line of JSON, or of words where a person reads it; always with the worker's id, never with a token."""

    def __init__(self, worker_id: str, *, as_json: bool) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {"worker_id": self._worker_id}
        fields |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        if self._as_json:
            return json.dumps({"timestamp": stamp, "level": record.levelname.lower(), "event": text, **fields})
        return f"{stamp} {record.levelname.lower():7} {text} " + " ".join(f"{k}={v}" for k, v in fields.items())


def _tell(succeeded: bool, message: str) -> int:  # noqa: FBT001 - a pair, taken apart
    print(f"hodei worker: {message}", file=sys.stdout if succeeded else sys.stderr)
    return 0 if succeeded else 1


def preload() -> None:
    """Import what a worker needs once it runs; nothing of it is used, and no thread is started."""
    for name in ("hodei.transport", "hodei_worker.agent", "hodei_worker.process"):
        importlib.import_module(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return its exit code: 0 done, 2 wrong settings, 3 refused, 4 no server."""
    parser = argparse.ArgumentParser(
        prog="hodei worker",
        description="Runs jobs for a Hodei server. Providers start it; its settings are environment variables "
        "(HODEI_WORKER_ID, HODEI_SERVER_ADDRESS, HODEI_OTP_TOKEN_FILE or HODEI_OTP_TOKEN, HODEI_LOG_LEVEL).",
    )
    parser.add_argument("--worker-id", default="", help="overrides HODEI_WORKER_ID")
    parser.add_argument(
        "--max-jobs", type=int, default=None, help="jobs to run before going, 0 without end (default 1)"
    )
    parser.add_argument("--version", action="version", version=hodei.__version__)
    parser.add_argument(
        "--health",
        action="store_true",
        help="run nothing; exit with 0 when the worker of HODEI_WORKER_DIR is connected to its server, else with 1",
    )
    parser.add_argument(
        "--copy-agent",
        type=Path,
        metavar="FOLDER",
        help="run nothing; copy the agent's self-contained folder, for containers whose image has no worker",
    )
    options = parser.parse_args(arguments)
    if options.health:
        return _tell(*check_health(os.environ))
    if options.copy_agent:
        from hodei_worker.folder import copy_agent  # noqa: PLC0415 - workers have no use for it

        return _tell(*copy_agent(options.copy_agent))
    try:
        settings = read_settings(os.environ, worker_id=options.worker_id, max_jobs=options.max_jobs)
    except WorkerSettingsError as error:
        print(f"hodei worker: {error}", file=sys.stderr)
        return 2
    scrub_environment()
    handler = logging.StreamHandler()
    handler.setFormatter(_Format(settings.worker_id, as_json=not sys.stderr.isatty()))
    logging.basicConfig(level=settings.level, handlers=[handler])
    # Only now, as it takes most of the time that a start takes: a wrong setting is told at once.
    from hodei.transport import PlaintextRefusedError  # noqa: PLC0415 - see above
    from hodei_worker.agent import Agent  # noqa: PLC0415 - see above
    from hodei_worker.process import become_reaper  # noqa: PLC0415 - see above

    become_reaper()

    async def run() -> int:
        return await Agent(settings).run()

    try:
        return asyncio.run(run())
    except (OSError, PlaintextRefusedError) as error:
        print(f"hodei worker: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
