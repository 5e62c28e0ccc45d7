"""Where the torture takes place: a server in a process of its own, a small disk, a proxy before each listener."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from hodei_client import Client, ClientSettings, UnavailableError
from hodei_client.settings import read_settings
from hodei_faults import FaultyProxy, SmallDisk, small_disks, worker_pids
from hodei_faults.ports import free_port
from hodei_torture.bucket import TorturedBucket

HODEI = str(Path(sys.executable).with_name("hodei"))
DISK_BYTES = 1 << 30
#: Seconds.
LEASE = 2.0
#: Seconds in which a server that was started, perhaps more than once, must serve.
ANSWER_SECONDS = 60.0


class Site:
    """What is hurt. An asynchronous context manager.

    :param folder: everything is in there.
    :param s3: sealed logs go to S3.
    :ivar bucket: where they go.
    :ivar settings: how clients reach the server, through a proxy.
    :ivar direct: how they reach it past the proxy.
    :ivar history: what was done, for people.
    :ivar faults: what must not have happened.
    :ivar killed_workers: ids of those that were killed, by the hand and not by the server.
    """

    def __init__(self, folder: Path, *, s3: bool = False) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.history: list[str] = []
        self.faults: list[str] = []
        self.killed_workers: set[str] = set()
        self.server: asyncio.subprocess.Process | None = None
        self.disk = SmallDisk(self.data, DISK_BYTES) if small_disks() else None
        self.bucket = TorturedBucket() if s3 else None
        self._ports = [free_port(), free_port()]
        self.clients = FaultyProxy(("127.0.0.1", self._ports[0]))
        self.workers = FaultyProxy(("127.0.0.1", self._ports[1]))
        self.settings: ClientSettings = read_settings()
        self.direct: ClientSettings = read_settings(f"127.0.0.1:{self._ports[0]}")
        self._stack = contextlib.AsyncExitStack()
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        async with self._stack as opening:
            if self.disk is not None:
                opening.enter_context(self.disk)
            for proxy in (self.clients, self.workers):
                await opening.enter_async_context(proxy)
            if self.bucket is not None:
                await opening.enter_async_context(self.bucket)
            self._stack = opening.pop_all()
        self.settings = dataclasses.replace(read_settings(self.clients.address), patience=900.0)
        await self.start_server()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the server; what is left of its workers is killed."""
        if self.server is not None and self.server.returncode is None:
            self.server.terminate()
            try:
                async with asyncio.timeout(30):
                    await self.server.wait()
            except TimeoutError:
                self.faults.append("the server does not end")
                self.server.kill()
                await self.server.wait()
        for pid in worker_pids(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._stack.aclose()

    def note(self, text: str) -> None:
        """Write a step down."""
        self.history.append(f"{time.monotonic() - self._began:8.2f} {text}")

    async def start_server(self) -> None:
        """Start the server."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")} | {
            "HODEI_LISTEN": f"127.0.0.1:{self._ports[0]}",
            "HODEI_WORKER_LISTEN": f"127.0.0.1:{self._ports[1]}",
            "HODEI_WORKER_ADDRESS": self.workers.address,
            "HODEI_DATA_DIR": str(self.data),
            "HODEI_LOG_SEGMENT": "64Ki",
            "HODEI_LEASE": f"{LEASE}s",
            "HODEI_PING_INTERVAL": "500ms",
            "HODEI_ORPHAN_AFTER": "60s",
            "HODEI_LOG_LEVEL": "warn",
        }
        if self.bucket is not None:
            environment |= self.bucket.settings()
        with (self.folder / "server.log").open("ab") as log:
            self.server = await asyncio.create_subprocess_exec(HODEI, "server", env=environment, stdout=log, stderr=log)

    async def server_answers(self) -> None:
        """Wait until the server serves.

        :raise TimeoutError: it does not, for `ANSWER_SECONDS`.
        """
        async with asyncio.timeout(ANSWER_SECONDS), Client(settings=self.direct) as client:
            while True:
                try:
                    await client.providers()
                except UnavailableError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def kill_server(self) -> None:
        """Kill the server without a warning."""
        assert self.server is not None
        with contextlib.suppress(ProcessLookupError):
            self.server.kill()
        await self.server.wait()

    async def keep_server(self) -> None:
        """Start the server again whenever it has ended, as whoever watches over it would do; until cancelled."""
        while True:
            if self.server is not None:
                code = await self.server.wait()
                self.note(f"the server has ended with {code}")
            await self.start_server()

    def signal_server(self, number: signal.Signals) -> None:
        """Send the server a signal, if it is there."""
        if self.server_is_up():
            assert self.server is not None
            self.server.send_signal(number)

    def server_is_up(self) -> bool:
        """Whether the server's process is there."""
        return self.server is not None and self.server.returncode is None

    def heal(self) -> None:
        """Undo whatever harm is being done."""
        self.clients.heal()
        self.workers.heal()
        if self.bucket is not None:
            self.bucket.heal()
        if self.disk is not None:
            self.disk.free()
        self.signal_server(signal.SIGCONT)
        for pid in worker_pids(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
