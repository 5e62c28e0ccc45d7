"""A server in a process of its own, and what the kernel says of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hodei.address import parse_address
from hodei_client import Client, ClientSettings
from hodei_faults.ports import free_port

#: The command of the environment that runs the benches.
HODEI = str(Path(sys.executable).with_name("hodei"))
#: Seconds that a server may take until it serves.
START_SECONDS = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that serves.

    :param address: `host:port` for clients.
    :param start_seconds: from the process's start until it served.
    """

    address: str
    pid: int
    data_dir: Path
    environment: Mapping[str, str]
    start_seconds: float

    def client(self) -> Client:
        """Return a client, not yet entered."""
        return Client(settings=ClientSettings(parse_address(self.address)))

    def read_bytes(self) -> int:
        """Return how many bytes the server's process has read from files, the page cache included (rchar)."""
        return _number_in(Path(f"/proc/{self.pid}/io"), "rchar:")

    def memory_bytes(self) -> int:
        """Return the resident memory of the server's process."""
        return memory_bytes(self.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time the server's process has used, user and system."""
        return cpu_seconds(self.pid)

    async def metric(self, name: str) -> float:
        """Return a figure without labels that the server tells at HODEI_METRICS_LISTEN."""
        url = f"http://{self.environment['HODEI_METRICS_LISTEN']}/metrics"
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=60) as answer:
            text = answer.read().decode()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def worker_pids(self) -> list[int]:
        """Return the processes of its workers."""
        return list(_workers_of(self.data_dir))

    def workers_cpu_seconds(self) -> float:
        """Return the processor time that its workers have used, with their jobs' processes that have ended."""
        return sum(cpu_seconds(pid, ended_children=True) for pid in self.worker_pids())


def _number_in(path: Path, key: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _number_in(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def cpu_seconds(pid: int, *, ended_children: bool = False) -> float:
    """Return the processor time a process has used, user and system.

    :param ended_children: and those that it has waited for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / os.sysconf("SC_CLK_TCK")


def processor_time(server: RunningServer) -> dict[str, float]:
    """Return the seconds of processor time that each part has used so far; the client is this process."""
    return {
        "server": server.cpu_seconds(),
        "workers": server.workers_cpu_seconds(),
        "client": time.process_time(),
    }


def clean_environment() -> dict[str, str]:
    """Return the environment without any HODEI_* variable."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}


@contextlib.asynccontextmanager
async def start_server(data_dir: Path, settings: Mapping[str, str]) -> AsyncIterator[RunningServer]:
    """Run `hodei server` until the block is left; then end it and kill the workers it has left.

    :param settings: by the name of the variable without its prefix, in lower case; upper case names are whole.
    """
    listen = {name: f"127.0.0.1:{free_port()}" for name in ("listen", "worker_listen")}
    given = {**listen, "data_dir": str(data_dir), "log_level": "warn", **settings}
    address = given["listen"]
    environment = clean_environment()
    for name, value in given.items():
        environment[name if name.isupper() else f"HODEI_{name.upper()}"] = value
    data_dir.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (data_dir.parent / f"{data_dir.name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(HODEI, "server", env=environment, stdout=log, stderr=log)
    try:
        await _serving(process, address, Path(log.name))
        took = time.perf_counter() - began
        yield RunningServer(address, process.pid, data_dir, environment, took)
        if process.returncode is not None:
            raise RuntimeError(f"the server has ended by itself: {Path(log.name).read_text()[-4000:]}")
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
        for pid in _workers_of(data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _serving(process: asyncio.subprocess.Process, address: str, log: Path) -> None:
    """Wait until the server says that it serves."""
    async with aio.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 50)]) as channel:
        ended = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(_ask_until_serving(channel))
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not asked.done():
            asked.cancel()
            raise RuntimeError(f"the server did not start: {log.read_text()[-4000:]}")
        await asked


async def _ask_until_serving(channel: aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=START_SECONDS)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.005)


def _workers_of(data_dir: Path) -> Iterator[int]:
    """Yield the pids of workers whose folder lies in a server's data."""
    mark = os.fsencode(data_dir)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.fsencode((entry / "cwd").readlink()).startswith(mark):
                    yield int(entry.name)
