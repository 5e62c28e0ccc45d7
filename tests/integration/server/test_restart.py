"""A server that ends, and the one that takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from grpc import aio

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings
from hodei_faults.ports import fixed_ports
from hodei_providers.contract import Handle, WorkerPhase
from hodei_providers.process import ProcessProvider
from hodei_providers.testing import make_request
from hodei_server.app import Server
from hodei_server.data_folder import DataFolder, DataFolderError
from hodei_server.db.engine import open_engine
from hodei_server.db.jobs import CancelWish, request_cancel
from hodei_server.db.transaction import Transaction

from .conftest import Impostor


async def file_appears(path: Path) -> None:
    """Wait for a file."""
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.02)


async def line_appears(path: Path) -> str:
    """Wait for a file with a whole line in it; return that."""
    async with asyncio.timeout(60):
        while not path.exists() or not path.read_text().endswith("\n"):
            await asyncio.sleep(0.02)
    return path.read_text().strip()


async def test_a_job_outlives_its_server_and_its_log_is_whole(make_settings: object, tmp_path: Path) -> None:
    """W14, W26, W35, L28: the worker comes back with its session; the job runs once; nothing of its log is lost."""
    assert callable(make_settings)
    script = (
        f"echo run >> {tmp_path}/marks; echo before; touch {tmp_path}/started; "
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo after; exit 5"
    )
    settings = make_settings(**fixed_ports())
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        job = await client.submit(["sh", "-c", script])
        await file_appears(tmp_path / "started")
    (tmp_path / "go").touch()
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        outcome = await client.wait(job)
        assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_EXIT_CODE, 5)
        data = [event.data async for event in client.logs(job) if isinstance(event, Chunk) and event.stream == STDOUT]
        assert b"".join(data) == b"before\nafter\n"
        assert len((await client.get(job)).attempts) == 1
        assert (await client.receipt(job)).complete
    assert (tmp_path / "marks").read_text() == "run\n"


async def test_a_follow_and_a_watch_go_on_over_a_restart(make_settings: object, tmp_path: Path) -> None:
    """L05, L06: each chunk once, in order, by its sequence; the end comes with the outcome."""
    assert callable(make_settings)
    script = (
        f"for i in 1 2 3; do echo line $i; done; touch {tmp_path}/started; "
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; for i in 4 5 6; do echo line $i; done"
    )
    settings = make_settings(**fixed_ports())
    first = Server(settings)
    await first.__aenter__()
    async with Client(settings=ClientSettings(first.address)) as client:
        job = await client.submit(["sh", "-c", script])

        async def follow() -> bytes:
            return b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)])

        following, waiting = asyncio.create_task(follow()), asyncio.create_task(client.wait(job))
        await file_appears(tmp_path / "started")
        await first.__aexit__(None, None, None)
        async with Server(settings, ephemeral=True):
            (tmp_path / "go").touch()
            assert await following == b"".join(b"line %d\n" % number for number in range(1, 7))
            assert (await waiting).state == wire.JOB_STATE_SUCCEEDED


async def test_a_worker_that_is_killed_is_lost_and_its_job_runs_again(make_settings: object, tmp_path: Path) -> None:
    """W08: found by its provider, told by its cause, retried as the infrastructure's failure."""
    assert callable(make_settings)
    script = f"echo $PPID >> {tmp_path}/workers; [ $(wc -l < {tmp_path}/workers) -gt 1 ] || sleep 600"
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", script])
        killer = await asyncio.create_subprocess_exec("kill", "-9", await line_appears(tmp_path / "workers"))
        await killer.wait()
        outcome = await client.wait(job)
        assert outcome.state == wire.JOB_STATE_SUCCEEDED
        attempts = (await client.get(job)).attempts
        assert [attempt.outcome.cause for attempt in attempts] == [wire.CAUSE_WORKER_LOST, wire.CAUSE_EXIT_CODE]


async def test_the_log_of_a_job_that_was_lost_while_no_server_was_there_is_not_called_whole(
    make_settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L01: its worker was told to run it, and nobody has heard whether it did."""
    assert callable(make_settings)
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", "sh -c 'exec sleep 600'")
    settings = make_settings(lease="1s")
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        job = await client.submit(["true"], retry=wire.RetryPolicy(max_infrastructure_retries=0))
        async with aio.insecure_channel(first.worker_address.target) as channel:
            worker = Impostor(channel, first)
            await worker.connect(await worker.register())
            pid = await worker.pid()
    os.kill(pid, signal.SIGKILL)
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        assert (await client.wait(job)).cause == wire.CAUSE_WORKER_LOST
        receipt = await client.receipt(job)
        assert (receipt.complete, receipt.ended) == (False, True)


async def test_what_nobody_knows_of_is_removed_after_its_grace(
    make_settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W11, W12: a worker of this installation that the database does not know; its neighbour's is left alone."""
    assert callable(make_settings)
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", "sh -c 'exec sleep 600'")
    settings = make_settings(stray_grace="0s")
    async with Server(settings):
        pass
    mine = (settings.data_dir / "installation").read_text().strip()
    options = {"worker_command": "sh -c 'exec sleep 600'"}
    provider = ProcessProvider("process", data_dir=settings.data_dir / "providers/process", options=options)
    async with provider:
        stray, other = make_request(mine), make_request("another")
        for request in (stray, other):
            await provider.launch(request)
        async with Server(settings):
            async with asyncio.timeout(30):
                while (await provider.describe(Handle(stray.worker_id))).phase is not WorkerPhase.MISSING:
                    await asyncio.sleep(0.02)
            assert (await provider.describe(Handle(other.worker_id))).phase is WorkerPhase.RUNNING
        await provider.destroy(Handle(other.worker_id))


async def test_two_servers_never_share_a_data_folder(make_settings: object) -> None:
    """The second one refuses and says who has it."""
    assert callable(make_settings)
    async with Server(make_settings(), ephemeral=True):
        with pytest.raises(DataFolderError, match="another server"):
            await Server(make_settings()).__aenter__()


async def test_another_installations_folder_is_refused(make_settings: object) -> None:
    """When database and folder differ nothing is touched."""
    assert callable(make_settings)
    settings = make_settings()
    with DataFolder(settings.data_dir) as folder:
        folder.write_installation("somebody-else")
    with pytest.raises(DataFolderError, match="belongs to installation somebody-else"):
        await Server(settings).__aenter__()
    assert (settings.data_dir / "installation").read_text() == "somebody-else\n"


@pytest.mark.parametrize("registered", [True, False])
async def test_a_job_cancelled_while_its_worker_starts_is_not_run_by_the_server_that_comes_after(
    make_settings: object, monkeypatch: pytest.MonkeyPatch, *, registered: bool
) -> None:
    """W16: also where the one before ended between writing the cancel down and giving the worker up."""
    assert callable(make_settings)
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", "sh -c 'exec sleep 600'")
    settings = make_settings(**fixed_ports())
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        job = await client.submit(["true"])
        async with aio.insecure_channel(first.worker_address.target) as channel:
            worker = Impostor(channel, first)
            worker_id, otp = await worker.credentials()
            token = await worker.register(worker_id, otp) if registered else ""
    engine = open_engine(settings.resolved_database_url)
    with engine.connect().execution_options(hodei_writer=True) as connection, connection.begin():
        tx = Transaction(connection)
        assert request_cancel(tx, CancelWish(job), lambda _: 0) is not None
        tx.flush()
    engine.dispose()
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        if registered:
            async with aio.insecure_channel(second.worker_address.target) as channel:
                worker = Impostor(channel, second)
                stream, _ = await worker.greet(token)
                while (message := await stream.read()) is not aio.EOF:
                    assert message.WhichOneof("message") != "run"
        async with asyncio.timeout(30):
            outcome = await client.wait(job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_CANCELLED, wire.CAUSE_CANCELLED)
    assert outcome.message == "Cancelled before it was started"
