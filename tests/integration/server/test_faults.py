"""Broken networks, stopped workers, full disks: what a job and its log come through."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings, LogPlace, UnavailableError
from hodei_faults import FaultyProxy, SmallDisk, small_disks, worker_pids
from hodei_server.app import Server
from hodei_server.settings import Settings

needs_a_small_disk = pytest.mark.skipif(
    not small_disks() and not os.environ.get("CI"), reason="a disk of its own can be mounted by root only"
)
#: Goes on printing until it is told to end, and says what it should have come to.
TALKER = r"""
i=0
while [ ! -e {go} ]; do
    echo "line $i"
    i=$((i + 1))
    [ $((i % 20)) -eq 0 ] && sleep 0.01
    [ $i -eq 100 ] && touch {started}
done
echo $i > {count}
"""
QUICK = {"lease": "1s", "ping_interval": "200ms"}


async def file_appears(path: Path) -> None:
    """Wait for a file that is written by a job."""
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.02)


def talker(folder: Path) -> list[str]:
    """Return the argv of a job that prints until the file `go` is there."""
    return [
        "sh",
        "-c",
        TALKER.format(go=folder / "go", started=folder / "started", count=folder / "count"),
    ]


async def output(client: Client, job: str) -> bytes:
    """Follow a job to its end; return what it wrote, each sequence seen once and in order."""
    data, expected = b"", 0
    async for event in client.logs(job):
        if isinstance(event, Chunk):
            assert event.sequence == expected
            expected += 1
            data += event.data if event.stream == STDOUT else b""
    return data


async def is_whole(client: Client, job: str, folder: Path, following: asyncio.Task[bytes]) -> None:
    """See that a talker ran once and that its log is all it wrote."""
    count = int((folder / "count").read_text())
    expected = b"".join(b"line %d\n" % number for number in range(count))
    assert await following == expected
    assert (await client.receipt(job)).complete
    assert len((await client.get(job)).attempts) == 1


async def test_a_worker_that_is_cut_off_comes_back_and_nothing_is_missing(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """L18, L28, W19, W35: reset again and again, unreachable for many leases; its job goes on and runs once."""
    async with FaultyProxy() as proxy:
        settings = make_settings(worker_address=proxy.address, **QUICK)
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            proxy.target = (server.worker_address.host, server.worker_address.port)
            job = await client.submit(talker(tmp_path))
            following = asyncio.create_task(output(client, job))
            await file_appears(tmp_path / "started")
            for _ in range(5):
                proxy.reset()
                await asyncio.sleep(0.3)
            proxy.cut()
            await asyncio.sleep(3.0)  # three leases
            assert (await client.get(job)).state == wire.JOB_STATE_RUNNING
            accepted = proxy.accepted
            proxy.heal()
            (tmp_path / "go").touch()
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            assert proxy.accepted > accepted
            await is_whole(client, job, tmp_path, following)


async def test_a_connection_that_is_as_good_as_dead_is_given_up_and_replaced(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """L18, W19, W20: pings both ways find it; the worker, which its provider knows to be alive, is not lost."""
    async with FaultyProxy() as proxy:
        settings = make_settings(worker_address=proxy.address, **QUICK)
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            proxy.target = (server.worker_address.host, server.worker_address.port)
            job = await client.submit(talker(tmp_path))
            following = asyncio.create_task(output(client, job))
            await file_appears(tmp_path / "started")
            proxy.stall()
            async with asyncio.timeout(30):
                while [worker async for worker in client.workers() if worker.connected]:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(2.0)  # two leases
            proxy.heal()
            (tmp_path / "go").touch()
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            await is_whole(client, job, tmp_path, following)


async def test_a_worker_that_is_stopped_for_many_leases_is_not_lost(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """L18, W19: silence decides nothing where the provider says that the worker is there."""
    settings = make_settings(**QUICK)
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(talker(tmp_path))
        following = asyncio.create_task(output(client, job))
        await file_appears(tmp_path / "started")
        (pid,) = worker_pids(settings.data_dir)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(4.0)  # four leases
            assert (await client.get(job)).state == wire.JOB_STATE_RUNNING
        finally:
            os.kill(pid, signal.SIGCONT)
        (tmp_path / "go").touch()
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        await is_whole(client, job, tmp_path, following)


async def test_a_worker_under_load_answers_its_pings(make_settings: Callable[..., Settings]) -> None:
    """W19: a job that floods its log for many ping intervals keeps its first connection."""
    async with FaultyProxy() as proxy:
        # Three of these are no time in which a busy machine lets a process do nothing at all.
        quick = QUICK | {"ping_interval": "2s"}
        settings = make_settings(worker_address=proxy.address, **quick)
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            proxy.target = (server.worker_address.host, server.worker_address.port)
            job = await client.submit(["sh", "-c", "yes | head -c 200000000; yes > /dev/null & sleep 20; kill $!"])
            outcome = await client.wait(job)
            assert outcome.state == wire.JOB_STATE_SUCCEEDED
            assert (await client.receipt(job)).bytes == 200_000_000
            # One for Register and Connect.
            assert proxy.accepted == 1


async def test_a_reader_of_one_kib_a_second_is_no_trouble_to_one_at_full_speed(server: Server) -> None:
    """L09: both see the same bytes; the slow one, once let go, goes on where it was."""
    assert server.address.port
    script = "i=0; while [ $i -lt 40 ]; do seq 1 20000; i=$((i + 1)); done"
    lines = b"".join(b"%d\n" % number for number in range(1, 20001)) * 40
    async with (
        FaultyProxy(("127.0.0.1", server.address.port), bytes_per_second=1024.0) as proxy,
        Client(settings=ClientSettings(server.address)) as fast,
        Client(proxy.address) as slow,
    ):
        job = await fast.submit(["sh", "-c", script])
        seen = 0
        slow_sha = hashlib.sha256()

        async def read_slowly() -> None:
            nonlocal seen
            async for event in slow.logs(job):
                if isinstance(event, Chunk) and event.stream == STDOUT:
                    seen += len(event.data)
                    slow_sha.update(event.data)

        reading = asyncio.create_task(read_slowly())
        assert await output(fast, job) == lines
        assert (await fast.receipt(job)).complete
        assert seen < len(lines) // 100
        proxy.bytes_per_second = None
        await reading
        assert (seen, slow_sha.digest()) == (len(lines), hashlib.sha256(lines).digest())


@needs_a_small_disk
async def test_a_full_disk_under_the_log_delays_a_job_and_costs_no_byte(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """L01, L14: what can't be made durable is not acknowledged; the worker keeps it until there is room."""
    settings = make_settings(log_level="warn")
    with SmallDisk(settings.data_dir / "logs", 8 << 20) as disk, capture_logs() as said:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(talker(tmp_path))
            following = asyncio.create_task(output(client, job))
            await file_appears(tmp_path / "started")
            disk.fill()
            async with asyncio.timeout(60):
                while not any(each["event"] == "log.write_failed" for each in said):
                    await asyncio.sleep(0.02)
            before = (await client.receipt(job)).chunks
            (tmp_path / "go").touch()
            await file_appears(tmp_path / "count")
            await asyncio.sleep(1.0)
            # The process has ended, its log has not.
            assert (await client.get(job)).state in {wire.JOB_STATE_RUNNING, wire.JOB_STATE_FINISHING}
            assert (await client.receipt(job)).chunks == before
            disk.free()
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            await is_whole(client, job, tmp_path, following)


@needs_a_small_disk
async def test_a_full_disk_under_the_database_refuses_what_is_new_and_loses_nothing(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Submissions are refused as UNAVAILABLE and not stored; what runs goes on and ends once there is room."""
    settings = make_settings()
    with SmallDisk(settings.data_dir, 16 << 20) as disk:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(talker(tmp_path))
            following = asyncio.create_task(output(client, job))
            await file_appears(tmp_path / "started")
            refused, said = 0, set()
            async with Client(settings=ClientSettings(server.address, patience=0.0)) as hasty:
                disk.fill()
                for _ in range(10):
                    try:
                        await hasty.submit(["echo", "x" * 10000])
                    except UnavailableError as error:
                        said.add(str(error))
                        refused += 1
                assert ["full" in each for each in said] == [True]
                (tmp_path / "go").touch()
                await file_appears(tmp_path / "count")
                disk.free()
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
                await is_whole(client, job, tmp_path, following)
                stored = [each async for each in hasty.list()]
                assert len(stored) == 1 + 10 - refused
                for each in stored:
                    assert (await client.wait(each.job_id)).state == wire.JOB_STATE_SUCCEEDED
                assert b"x" in b"".join(
                    [
                        event.data
                        async for event in client.logs(await client.submit(["echo", "x"]), place=LogPlace())
                        if isinstance(event, Chunk)
                    ]
                )
