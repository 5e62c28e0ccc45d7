"""Servers of tests: their settings, and processes of their own, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hodei_server.settings import Settings, load_settings

#: Seconds in which a server starts, or ends, on a busy machine too.
PATIENCE = 180.0


def settings_in(data_dir: Path, **overrides: str) -> Settings:
    """Return settings for a server of a test: free ports of the loopback, pings in a hurry, an end without waiting."""
    fixed = {
        "listen": "127.0.0.1:0",
        "worker_listen": "127.0.0.1:0",
        "data_dir": str(data_dir),
        "drain_timeout": "0s",
        "log_level": "error",
        "ping_interval": "500ms",
    }
    return load_settings(fixed | overrides)


class ServerProcess:
    """One server's data and addresses; started and killed as often as a test likes.

    :param log: a file that takes what it says.
    :param passed_on: beginnings of those ``HODEI_`` variables of this process that it gets, too.
    :ivar data_dir: its data folder.
    """

    def __init__(self, settings: Settings, log: Path, *passed_on: str) -> None:
        self.data_dir = settings.data_dir
        self._log = log
        self._settings = settings
        self._passed_on = passed_on
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, **variables: str) -> None:
        """Start it and wait until it serves."""
        settings = self._settings
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HODEI_") or name.startswith(self._passed_on)
        }
        environment |= {
            "HODEI_LISTEN": settings.listen,
            "HODEI_WORKER_LISTEN": settings.worker_listen,
            "HODEI_DATA_DIR": str(settings.data_dir),
            "HODEI_PROVIDERS": settings.providers,
            "HODEI_WORKER_IMAGE": settings.worker_image,
            "HODEI_DRAIN_TIMEOUT": "0s",
            "HODEI_PING_INTERVAL": "500ms",
        }
        before = self._spawn(environment | variables)
        async with asyncio.timeout(PATIENCE):
            while b"server.started" not in self._log.read_bytes()[before:]:
                assert self._process is not None
                assert self._process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.05)

    def _spawn(self, environment: dict[str, str]) -> int:
        with self._log.open("ab") as output:
            before = output.tell()
            command = [str(Path(sys.executable).with_name("hodei")), "server"]
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        return before

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def died(self) -> int:
        """Wait for its end; return its exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, PATIENCE)

    async def kill(self) -> None:
        """Kill it, as a machine that loses its power would."""
        assert self._process is not None
        self._process.kill()
        await self.died()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Return what stops it, and lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            await self.died()
