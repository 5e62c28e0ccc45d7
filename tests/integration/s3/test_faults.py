"""S3 that fails: jobs go on as long as the disk has room, it is told, nothing is lost, and it is made up for."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from hodei_client import Client, ClientSettings
from hodei_faults import FaultyProxy, SmallDisk, small_disks
from hodei_faults.logs import read
from hodei_faults.s3_proxy import S3Proxy
from hodei_server.app import Server
from hodei_server.loops.archive import HEALTH_SERVICE
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


class Faulty:
    """An S3 server behind two proxies, and everything that can be wrong with it."""

    def __init__(self, s3: Any, bucket: str, patch: pytest.MonkeyPatch) -> None:
        target = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self.proxy = FaultyProxy((target.hostname or "", target.port or 80))
        self.s3_proxy = S3Proxy("")
        self._s3 = s3
        self._bucket = bucket
        self._patch = patch

    def begin(self, fault: str) -> None:
        """Do harm."""
        match fault:
            case "unreachable":
                self.proxy.cut()
            case "silent":
                self.proxy.stall()
            case "503":
                self.s3_proxy.error = ("SlowDown", 503)
            case "refused":
                self.s3_proxy.error = ("AccessDenied", 403)
            case "wrong secret":
                self._patch.setenv("AWS_SECRET_ACCESS_KEY", "no such secret")
            case "no bucket":
                self._s3.delete_bucket(Bucket=self._bucket)
            case "skewed clock":
                now = botocore.auth.get_current_datetime
                self._patch.setattr(
                    botocore.auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + dt.timedelta(hours=1)
                )

    def heal(self, fault: str) -> None:
        """Undo it."""
        self.proxy.heal()
        self.s3_proxy.error = None
        self._patch.undo()
        if fault == "no bucket":
            self._s3.create_bucket(Bucket=self._bucket)


@pytest.fixture
async def faulty(s3: Any, bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Faulty]:
    """Return the way to the S3 server: the server under test, a proxy of HTTP, a proxy of TCP, S3."""
    with monkeypatch.context() as patch:
        faulty = Faulty(s3, bucket_name, patch)
        async with faulty.proxy:
            faulty.s3_proxy = S3Proxy(f"http://{faulty.proxy.address}")
            async with faulty.s3_proxy:
                yield faulty


async def healthy(server: Server) -> bool:
    """Return what health checks say of the archive."""
    async with aio.insecure_channel(server.address.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=HEALTH_SERVICE))
        whole = await stub.Check(health_pb2.HealthCheckRequest())
        assert whole.status == health_pb2.HealthCheckResponse.SERVING
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def becomes(server: Server, *, healthy_again: bool) -> None:
    """Wait until the archive is told to be well, or not."""
    async with asyncio.timeout(90):
        while await healthy(server) != healthy_again:
            await asyncio.sleep(0.05)


async def empty(folder: Path) -> None:
    """Wait until no log is on the disk any more."""
    async with asyncio.timeout(90):
        while any(path.is_file() for path in folder.rglob("*")):
            await asyncio.sleep(0.05)


LINES = b"".join(b"%d\n" % number for number in range(1, 40_001))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unreachable", "can't be reached"),
        ("silent", "can't be reached"),
        ("503", "SlowDown"),
        ("refused", "refuses the credentials"),
        ("wrong secret", "refuses the credentials"),
        ("no bucket", "there is no bucket"),
        ("skewed clock", "clock"),
    ],
)
async def test_jobs_go_on_while_s3_fails_and_it_catches_up(
    make_settings: MakeSettings, faulty: Faulty, fault: str, words: str
) -> None:
    """L20: the log is read from the disk; health and the server's log say what is wrong, and that it is over."""
    faulty.begin(fault)
    timeout = "3s" if fault == "silent" else "30s"
    settings = make_settings(s3_endpoint=faulty.s3_proxy.url, log_level="info", s3_read_timeout=timeout)
    with capture_logs() as told:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(["seq", "40000"])
            assert (await client.wait(job)).exit_code == 0
            await becomes(server, healthy_again=False)
            assert await read(client, job) == LINES
            assert any((settings.data_dir / "logs").rglob("*.*"))
            (failing,) = [entry for entry in told if entry["event"] == "archive.failing"]
            assert words in failing["error"]
            faulty.heal(fault)
            await becomes(server, healthy_again=True)
            await empty(settings.data_dir / "logs")
            assert await read(client, job) == LINES
            assert (await client.receipt(job)).complete
    events = [entry["event"] for entry in told if entry["event"] in {"archive.failing", "archive.recovered"}]
    # Each once; and both again where a busy machine's S3 server has fallen silent for that long by itself.
    assert events == ["archive.failing", "archive.recovered"] * (len(events) // 2 if fault == "silent" else 1)


@pytest.mark.skipif(
    not small_disks() and not os.environ.get("CI"), reason="a disk of its own can be mounted by root only"
)
async def test_a_disk_that_fills_up_while_s3_is_away_delays_a_job_and_loses_nothing(
    make_settings: MakeSettings, faulty: Faulty, tmp_path: Path
) -> None:
    """L14, L20: nothing acknowledged is lost; with no room to compress it goes up all the same."""
    settings = make_settings(s3_endpoint=faulty.s3_proxy.url, log_segment="1Mi", s3_read_timeout="1s")
    script = "head -c 40000000 /dev/urandom | base64"
    with SmallDisk(settings.data_dir / "logs", 8 << 20):
        faulty.begin("unreachable")
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(["sh", "-c", f"{script} | tee {tmp_path}/printed"])
            async with asyncio.timeout(60):
                while os.statvfs(settings.data_dir / "logs").f_bavail > 256:
                    await asyncio.sleep(0.05)
            await becomes(server, healthy_again=False)
            faulty.heal("unreachable")
            assert (await client.wait(job)).exit_code == 0
            assert await read(client, job) == (tmp_path / "printed").read_bytes()
            assert (await client.receipt(job)).complete
            await empty(settings.data_dir / "logs")


async def test_an_archived_log_is_out_of_reach_while_s3_is_and_its_reader_goes_on_afterwards(
    make_settings: MakeSettings, faulty: Faulty
) -> None:
    """L06: never the end of a log that has not ended; and only what is wanted is fetched."""
    settings = make_settings(s3_endpoint=faulty.s3_proxy.url, s3_read_timeout="1s")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["seq", "40000"])
        await client.wait(job)
        await empty(settings.data_dir / "logs")
        faulty.begin("unreachable")
        before = len(faulty.s3_proxy.calls)
        reading = asyncio.create_task(read(client, job))
        async with asyncio.timeout(60):
            while len(faulty.s3_proxy.calls) < before + 4:
                await asyncio.sleep(0.05)
        assert not reading.done()
        faulty.heal("unreachable")
        assert await reading == LINES


async def test_s3_that_is_slow_keeps_nobody_waiting_and_it_catches_up(
    make_settings: MakeSettings, faulty: Faulty
) -> None:
    """L20: jobs end while their logs are on their way, which are read from the disk; it is no failure."""
    proxy = faulty.s3_proxy
    settings = make_settings(s3_endpoint=proxy.url, log_level="info", s3_read_timeout="60s")
    logs = settings.data_dir / "logs"
    with capture_logs() as told:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            # Slower than all that is done meanwhile, however long that takes.
            proxy.gate.clear()
            jobs = [await client.submit(["seq", "40000"]) for _ in range(3)]
            for job in jobs:
                assert (await client.wait(job)).exit_code == 0
            async with asyncio.timeout(60):
                while not proxy.busy:
                    await asyncio.sleep(0.05)
            for job in jobs:
                assert await read(client, job) == LINES
                assert (await client.receipt(job)).complete
            assert await healthy(server)
            assert proxy.fetched == 0
            assert any(path.is_file() for path in logs.rglob("*"))
            # It stays slow: each call takes its time, and so do the bytes.
            proxy.delay = 0.3
            faulty.proxy.bytes_per_second = 100_000
            proxy.gate.set()
            jobs.append(await client.submit(["seq", "40000"]))
            assert (await client.wait(jobs[-1])).exit_code == 0
            assert await read(client, jobs[-1]) == LINES
            await empty(logs)
            for job in jobs:
                assert await read(client, job) == LINES
            assert proxy.fetched > 0
            assert await healthy(server)
    assert "archive.failing" not in {entry["event"] for entry in told}
