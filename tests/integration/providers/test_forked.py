"""Workers that are forked from what has imported them already keep every promise of those that are executed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hodei_providers.contract import Handle, LaunchRequest, Provider, WorkerPhase
from hodei_providers.process import ProcessProvider, procfs
from hodei_providers.process.folder import Record, WorkerFolder
from hodei_providers.process.fork_client import ForkClient
from hodei_providers.testing import INSTALLATION, EndWorker, MakeProvider, ProviderContract, make_request, until

#: Launches a worker, says who runs, and waits for its end.
HOLDER = """
import asyncio, pathlib, sys
from hodei_providers.process import ProcessProvider
from hodei_providers.testing import make_request

async def hold():
    async with ProcessProvider("process", data_dir=pathlib.Path(sys.argv[1])) as provider:
        handle = await provider.launch(make_request())
        print(provider.fork_server_pid, handle.data["pid"], flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


class TestForkedWorkers(ProviderContract):
    @pytest.fixture
    def make_provider(self, tmp_path: Path) -> MakeProvider:
        """Return providers over one folder."""
        return lambda: ProcessProvider("process", data_dir=tmp_path)

    @pytest.fixture
    def end_worker(self) -> EndWorker:
        """Have a worker end: it can't be told with which code."""

        async def end(provider: Provider, request: LaunchRequest, _: int) -> None:
            description = await provider.describe(Handle(request.worker_id))
            os.kill(int(description.handle.data["pid"]), signal.SIGKILL)

        return end


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[ProcessProvider]:
    """Return a provider that forks; its workers look in vain for their server."""
    async with ProcessProvider("process", data_dir=tmp_path) as entered:
        yield entered
        for handle in await entered.list(INSTALLATION):
            await entered.destroy(handle)


async def gone(pid: int) -> None:
    """Wait for a process to end."""
    async with asyncio.timeout(60):
        while procfs.look_up(pid) is not None:
            await asyncio.sleep(0.02)


async def says(provider: ProcessProvider, handle: Handle, words: str) -> None:
    """Wait for a worker's own words in its output."""
    async with asyncio.timeout(60):
        while not any(words in line for line in await provider.diagnose(handle)):
            await asyncio.sleep(0.02)


async def test_a_forked_worker_stands_on_its_own(provider: ProcessProvider, tmp_path: Path) -> None:
    """W24, W26: a session, a folder and an output of its own, its id in its arguments, nothing of the fork server's."""
    request = make_request()
    handle = await provider.launch(request)
    await says(provider, handle, "can't register yet")
    pid = int(handle.data["pid"])
    process = procfs.look_up(pid)
    assert process is not None
    assert process.parent == provider.fork_server_pid
    assert process.session == pid
    assert procfs.has_arguments(pid, (b"--worker-id", request.worker_id.encode()))
    assert request.otp.encode() not in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    assert not (tmp_path / "workers" / request.worker_id / "otp").exists()


async def test_nothing_of_grpc_runs_where_workers_are_forked(provider: ProcessProvider) -> None:
    """W23: the fork server has one thread, before and after it has forked."""
    await says(provider, await provider.launch(make_request()), "can't register yet")
    assert len(list(Path(f"/proc/{provider.fork_server_pid}/task").iterdir())) == 1


async def test_how_a_forked_worker_has_ended_is_told(provider: ProcessProvider) -> None:
    """W18: by its exit code or its signal, and no zombie is left."""
    wrong = await provider.launch(make_request(environment={"HODEI_SPOOL_BYTES": "much"}))
    await until(provider, wrong, WorkerPhase.EXITED)
    assert (await provider.describe(wrong)).exit_code == 2
    await says(provider, wrong, "HODEI_SPOOL_BYTES: 'much' can't be used")
    killed = await provider.launch(make_request())
    os.kill(int(killed.data["pid"]), signal.SIGKILL)
    await until(provider, killed, WorkerPhase.EXITED)
    assert (await provider.describe(killed)).signal == signal.SIGKILL
    assert not Path("/proc", killed.data["pid"]).exists()


async def test_a_worker_that_ends_before_its_launch_does_is_told_as_one_that_has_ended(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W18: however soon it ends, it is none whose launch was never finished."""
    launch = ForkClient.launch

    def launch_and_dawdle(*arguments: Any) -> int:
        pid = launch(*arguments)
        asyncio.run(gone(pid))
        return pid

    monkeypatch.setattr(ForkClient, "launch", launch_and_dawdle)
    handle = await provider.launch(make_request(environment={"HODEI_SPOOL_BYTES": "much"}))
    description = await provider.describe(handle)
    assert (description.phase, description.exit_code) == (WorkerPhase.EXITED, 2)


async def test_launches_go_on_when_the_fork_server_dies(provider: ProcessProvider) -> None:
    """W13: its workers live, and the next is executed; how the old ones end nobody can tell any more."""
    first = await provider.launch(make_request())
    fork_server = provider.fork_server_pid
    assert fork_server is not None
    os.kill(fork_server, signal.SIGKILL)
    await gone(fork_server)
    second = await provider.launch(make_request())
    for handle in (first, second):
        assert (await provider.describe(handle)).phase is WorkerPhase.RUNNING
    os.kill(int(first.data["pid"]), signal.SIGKILL)
    await until(provider, first, WorkerPhase.EXITED)
    assert (await provider.describe(first)).exit_code is None


async def test_a_fork_server_that_hangs_is_replaced(provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """W13: it is killed before the worker is looked for and executed, so there is one at most."""
    await provider.launch(make_request())
    fork_server = provider.fork_server_pid
    assert fork_server is not None
    monkeypatch.setattr("hodei_providers.process.fork_client.ANSWER_SECONDS", 0.2)
    os.kill(fork_server, signal.SIGSTOP)
    request = make_request()
    handle = await provider.launch(request)
    await gone(fork_server)
    await says(provider, handle, "can't register yet")
    mark = (b"--worker-id", request.worker_id.encode())
    assert [str(each.pid) for each in procfs.all_processes() if procfs.has_arguments(each.pid, mark)] == [
        handle.data["pid"]
    ]


async def test_a_forked_launch_that_died_half_way_is_found(provider: ProcessProvider, tmp_path: Path) -> None:
    """W13: by the id in its arguments, where the record has no pid."""
    request = make_request()
    handle = await provider.launch(request)
    await says(provider, handle, "can't register yet")
    WorkerFolder(tmp_path / "workers", request.worker_id).write(Record(request.worker_id, INSTALLATION))
    found = await provider.describe(Handle(request.worker_id))
    assert (found.phase, found.handle.data) == (WorkerPhase.RUNNING, handle.data)


async def test_the_fork_server_ends_with_whoever_has_started_it(tmp_path: Path) -> None:
    """W26: even if that is killed; its workers go on and are found."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    fork_server, worker = map(int, (await holder.stdout.readline()).split())
    holder.kill()
    await holder.wait()
    await gone(fork_server)
    async with ProcessProvider("process", data_dir=tmp_path) as provider:
        (handle,) = await provider.list(INSTALLATION)
        assert int(handle.data["pid"]) == worker
        assert await provider.destroy(handle)


async def test_what_is_destroyed_while_it_is_launched_is_gone(provider: ProcessProvider) -> None:
    """W43: a launch whose caller has gone comes to its end first, however long the fork server takes."""
    request = make_request()
    launching = asyncio.ensure_future(provider.launch(request))
    await asyncio.sleep(0)
    launching.cancel()
    await asyncio.gather(launching, return_exceptions=True)
    assert await provider.destroy(Handle(request.worker_id))
    mark = (b"--worker-id", request.worker_id.encode())
    assert not [each for each in procfs.all_processes() if procfs.has_arguments(each.pid, mark)]
    assert await provider.list(INSTALLATION) == []
