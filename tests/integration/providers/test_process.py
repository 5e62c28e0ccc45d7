"""The process provider on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hodei_providers.contract import Handle, LaunchRequest, Provider, ProviderUnavailableError, WorkerPhase
from hodei_providers.process import ProcessProvider, procfs
from hodei_providers.process.folder import Record, WorkerFolder
from hodei_providers.testing import INSTALLATION, EndWorker, MakeProvider, ProviderContract, make_request, until

#: Plays a worker: says so, then exits with the code that a file in its folder names.
PLAYER = """
import os, pathlib, time
print('the last words', flush=True)
while not pathlib.Path('exit').exists():
    time.sleep(0.01)
os._exit(int(pathlib.Path('exit').read_text()))
"""
#: Leaves a grandchild in a session of its own, without a parent.
FORKER = """
import os, pathlib, subprocess, time
subprocess.Popen(['sh', '-c', 'setsid sh -c "echo \\\\$\\\\$ > stray; exec sleep 600" &'])
while True:
    time.sleep(1)
"""


def command(program: str) -> str:
    """Return the option that makes a program the worker."""
    return shlex.join([sys.executable, "-c", program])


class TestProcessProvider(ProviderContract):
    @pytest.fixture
    def make_provider(self, tmp_path: Path) -> MakeProvider:
        """Return providers over one folder."""
        return lambda: ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})

    @pytest.fixture
    def end_worker(self, tmp_path: Path) -> EndWorker:
        """Have a worker exit."""

        async def end(_: Provider, request: LaunchRequest, code: int) -> None:
            folder = tmp_path / "workers" / request.worker_id
            (folder / "exit.new").write_text(str(code))
            (folder / "exit.new").rename(folder / "exit")

        return end


@pytest.fixture
async def forker(tmp_path: Path) -> AsyncIterator[ProcessProvider]:
    """Return a provider whose workers leave strays."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(FORKER)})
    async with provider:
        yield provider
        for handle in await provider.list(INSTALLATION):
            await provider.destroy(handle)


async def test_destroying_ends_all_that_the_worker_has_started(forker: ProcessProvider, tmp_path: Path) -> None:
    """W17: orphans in sessions of their own too, by the mark in their environment."""
    request = make_request()
    handle = await forker.launch(request)
    file = tmp_path / "workers" / request.worker_id / "stray"
    async with asyncio.timeout(60):
        while not file.exists() or not file.read_text().strip():
            await asyncio.sleep(0.02)
    stray = int(file.read_text())
    assert procfs.look_up(stray) is not None
    assert await forker.destroy(handle)
    assert procfs.look_up(stray) is None


async def test_the_token_is_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    """W24: neither in the arguments nor in the environment."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        request = make_request()
        handle = await provider.launch(request)
        process = Path("/proc") / handle.data["pid"]
        assert request.otp.encode() not in (process / "environ").read_bytes()
        assert request.otp.encode() not in (process / "cmdline").read_bytes()
        token = tmp_path / "workers" / request.worker_id / "otp"
        assert (token.read_text(), token.stat().st_mode & 0o777) == (request.otp, 0o600)
        await provider.destroy(handle)


async def test_a_launch_that_died_half_way_is_found(tmp_path: Path) -> None:
    """W13: the record is there before the process, and the process carries its id in its arguments."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        request = make_request()
        handle = await provider.launch(request)
        folder = WorkerFolder(tmp_path / "workers", request.worker_id)
        record = folder.read()
        assert record is not None
        folder.write(Record(record.worker_id, record.installation_id))
        found = await provider.describe(Handle(request.worker_id))
        assert (found.phase, found.handle.data) == (WorkerPhase.RUNNING, handle.data)
        await provider.destroy(handle)
        assert procfs.look_up(int(handle.data["pid"])) is None


async def test_a_pid_that_means_another_process_by_now_is_left_alone(tmp_path: Path) -> None:
    """A pid is used again; with its start time it is not mistaken."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        bystander = await asyncio.create_subprocess_exec("sleep", "600")
        request = make_request()
        folder = WorkerFolder(tmp_path / "workers", request.worker_id)
        folder.path.mkdir(parents=True)
        folder.write(Record(request.worker_id, INSTALLATION, bystander.pid, 1, procfs.boot_id()))
        assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.EXITED
        assert await provider.destroy(Handle(request.worker_id))
        assert procfs.look_up(bystander.pid) is not None
        bystander.kill()
        await bystander.wait()


async def test_a_worker_is_no_part_of_the_servers_session(tmp_path: Path) -> None:
    """W26: what ends a server's whole process group, as an interrupt at a terminal does, does not reach its workers."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        handle = await provider.launch(make_request())
        pid = int(handle.data["pid"])
        assert os.getsid(pid) == pid
        assert os.getsid(pid) != os.getsid(0)
        await provider.destroy(handle)


def children() -> set[int]:
    """Return the pids of this process's children, those included that have ended and were not waited for."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        # Threads of tests before this one end meanwhile.
        with contextlib.suppress(OSError):
            found.update(map(int, (thread / "children").read_text().split()))
    return found


async def test_an_ended_worker_leaves_no_zombie(tmp_path: Path) -> None:
    """W18: it is reaped, and its code is told."""
    before = children()  # of other tests, in the same process
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command("raise SystemExit(3)")})
    async with provider:
        handle = await provider.launch(make_request())
        await until(provider, handle, WorkerPhase.EXITED)
        assert (await provider.describe(handle)).exit_code == 3
        await provider.destroy(handle)
        ended = {pid for pid in children() - before if procfs.look_up(pid) is None}
        assert not [pid for pid in ended if Path("/proc", str(pid)).exists()]


async def test_a_worker_that_is_being_launched_has_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W03: its record is there before its process; who looks in between is told that it is pending."""
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        request = make_request()
        written, go = threading.Event(), threading.Event()
        real = WorkerFolder.write_secret

        def write_secret(self: WorkerFolder, name: str, data: bytes) -> Path:
            written.set()
            assert go.wait(60)
            return real(self, name, data)

        monkeypatch.setattr(WorkerFolder, "write_secret", write_secret)
        launching = asyncio.ensure_future(provider.launch(request))
        await asyncio.to_thread(written.wait, 60)
        assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.PENDING
        go.set()
        handle = await launching
        assert (await provider.describe(handle)).phase is WorkerPhase.RUNNING
        await provider.destroy(handle)


async def test_a_worker_that_a_signal_without_a_name_has_ended_is_described(tmp_path: Path) -> None:
    """W08: those for real time have none but the first and the last."""
    number = signal.SIGRTMIN + 3
    program = f"import os; os.kill(os.getpid(), {number})"
    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(program)})
    async with provider:
        handle = await provider.launch(make_request())
        await until(provider, handle, WorkerPhase.EXITED)
        description = await provider.describe(handle)
        assert (description.signal, description.message) == (number, f"ended by signal {number}")
        assert await provider.destroy(handle)


async def test_a_machine_that_can_t_be_asked_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W28: as with too many files open, which must end neither the server nor the removal of a worker."""

    def refused() -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    provider = ProcessProvider("process", data_dir=tmp_path, options={"worker_command": command(PLAYER)})
    async with provider:
        handle = await provider.launch(make_request())
        with monkeypatch.context() as patched:
            patched.setattr(procfs, "boot_id", refused)
            watching = provider.watch(INSTALLATION)
            for asked in (
                provider.describe(handle),
                provider.list(INSTALLATION),
                provider.destroy(handle),
                anext(watching),
            ):
                with pytest.raises(ProviderUnavailableError, match="Too many open files"):
                    await asked
        assert await provider.destroy(handle)
