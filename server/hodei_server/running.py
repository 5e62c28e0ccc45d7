"""How a server is run: as a command of its own, or inside another process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import structlog

from hodei_server import journal
from hodei_server.allocator import limit_arenas
from hodei_server.app import STARTUP_ERRORS, Server
from hodei_server.database_lock import AskedToEndError
from hodei_server.secrets.keys import KEY_BYTES
from hodei_server.settings import Settings, load_settings, unknown_variables

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def serve(settings: Settings) -> int:
    """Run a server until it is asked to end; return the exit code."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    server = Server(settings, ending=ending)
    try:
        async with server:
            # What there is now stays for good: looking through it again and again is what makes collections long.
            gc.collect()
            gc.freeze()
            waits = [asyncio.create_task(ending.wait()), asyncio.create_task(server.failed.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()
    except AskedToEndError:
        _log.info("server.ending")
    return 1 if server.failed.is_set() else 0


def run_server(overrides: Mapping[str, str]) -> int:
    """Run a server with settings from the environment; return the exit code: 0 asked to end, 1 failed, 2 can't start.

    :param overrides: settings by name that win over the environment.
    """
    limit_arenas()
    try:
        settings = load_settings(overrides)
        journal.configure(settings.log_level, settings.log_format)
        for name in unknown_variables(os.environ, settings.nobodys_options):
            _log.warning("settings.unknown_variable", variable=name)
        return asyncio.run(serve(settings))
    except STARTUP_ERRORS as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"hodei server: {line}\n")
        return 2


@contextlib.asynccontextmanager
async def embedded(data_dir: Path | None = None) -> AsyncIterator[Server]:
    """Run a server inside this process, on free ports of the loopback.

    :param data_dir: where it keeps its data, and the key of secrets; a temporary folder, removed at the end, when None.
    """
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hodei-")))
        key = folder / "secrets.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(base64.b64encode(os.urandom(KEY_BYTES)))
        settings = load_settings(
            {
                "secrets_key_file": str(key),
                "listen": "127.0.0.1:0",
                "worker_listen": "127.0.0.1:0",
                "data_dir": str(folder),
                "database_url": "",
                "drain_timeout": "0s",
                "log_level": "error",
            }
        )
        journal.configure(settings.log_level, settings.log_format)
        async with Server(settings, ephemeral=True) as server:
            yield server
