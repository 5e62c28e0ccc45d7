"""A server that is not there for a while, stopped or killed, while its workers go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults import worker_pids
from hodei_faults.ports import fixed_ports
from hodei_faults.servers import ServerProcess
from hodei_server.app import Server
from hodei_server.loops.clocks import SWEEP_SECONDS
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]

#: Of a job, by when a busy machine, too, has stopped its server and let it end; and what the server gives its worker
#: beyond that; in seconds.
RUN_TIMEOUT, MARGIN = 10.0, 1.0


@pytest.fixture
async def process(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, Client]]:
    """Return a server that is not started yet, and a client of it; what is left of its workers is removed."""
    settings = make_settings(**fixed_ports(), log_level="info")
    process = ServerProcess(settings, tmp_path / "server.log")
    async with Client(settings=ClientSettings(settings.address)) as client:
        yield process, client
    await process.stop()
    async with Server(settings, ephemeral=True):
        pass


@contextlib.asynccontextmanager
async def absence(process: ServerProcess, how: str, pid: int, variables: dict[str, str]) -> AsyncIterator[None]:
    """Keep the server away, until its worker's deadlines have passed; the worker is heard some sweeps after that."""
    (worker,) = worker_pids(process.data_dir)
    with contextlib.ExitStack() as stack:
        if how == "stopped":
            stack.enter_context(process.suspended())
        else:
            await process.kill()
        yield
        async with asyncio.timeout(60):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.02)
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(RUN_TIMEOUT + 2 * MARGIN)
    if how == "killed":
        await process.start(**variables)
    await asyncio.sleep(3 * SWEEP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_what_ended_in_time_while_the_server_was_away_keeps_its_outcome(
    process: tuple[ServerProcess, Client], tmp_path: Path, how: str
) -> None:
    """W05, L18: also where its deadline has passed before its worker could say so."""
    server, client = process
    variables = {"HODEI_RUN_MARGIN": f"{MARGIN}s", "HODEI_CANCEL_GRACE": "0s", "HODEI_LEASE": "100ms"}
    await server.start(**variables)
    script = f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 3"
    job = await client.submit(["sh", "-c", script], run_timeout=RUN_TIMEOUT)
    async with absence(server, how, await running(client, job, tmp_path), variables):
        (tmp_path / "go").touch()
    outcome = await client.wait(job)
    assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_EXIT_CODE, 3)


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_what_was_cancelled_before_the_server_went_away_has_its_last_words(
    process: tuple[ServerProcess, Client], tmp_path: Path, how: str
) -> None:
    """W05, L01: the time its worker has to confirm begins when it can be heard again."""
    server, client = process
    variables = {"HODEI_RUN_MARGIN": f"{MARGIN}s"}
    await server.start(**variables)
    script = (
        f"trap 'touch {tmp_path}/told; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo bye; exit 0' TERM; "
        f"echo $$ > {tmp_path}/pid; while :; do sleep 0.02; done"
    )
    job = await client.submit(["sh", "-c", script])
    pid = await running(client, job, tmp_path)
    await client.cancel(job, grace=RUN_TIMEOUT)
    async with asyncio.timeout(60):
        while not (tmp_path / "told").exists():
            await asyncio.sleep(0.02)
    async with absence(server, how, pid, variables):
        (tmp_path / "go").touch()
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    assert (await client.receipt(job)).complete
    log = b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)])
    # The shell tells of what ended with it, too.
    assert log.endswith(b"bye\n")


async def running(client: Client, job: str, folder: Path) -> int:
    """Wait until a job's process runs; return its pid."""
    async with asyncio.timeout(60):
        while (await client.get(job)).state != wire.JOB_STATE_RUNNING or not (folder / "pid").exists():
            await asyncio.sleep(0.02)
    return int((folder / "pid").read_text())
