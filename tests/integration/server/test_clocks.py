"""The clocks of jobs, and what keeps a worker from telling in time that its job has ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from grpc import aio
from structlog.testing import capture_logs

from hodei.v1 import log_pb2, types_pb2, worker_pb2
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults import SmallDisk, small_disks
from hodei_logstore.contract import Append, LogStoreError, StorageFullError
from hodei_logstore.file import FileLogStore
from hodei_server.app import Server
from hodei_server.db.attempts import active_attempts
from hodei_server.loops import clocks
from hodei_server.settings import Settings

from .conftest import Impostor

#: The impostor of conftest.py, and a client.
Cast = tuple[Any, Client]
#: What the clocks have run ahead by, in microseconds, and a time that no job here takes, in seconds.
AHEAD, LONG = 7200 * 10**6, 3600.0


class Clocks:
    """The clocks of the servers of this process.

    :ivar jump: whether they are to go ahead by hours as they look next.
    :ivar ahead: whether they have: jobs look to them as though the server had been there for as long.
    :ivar margin: what they give workers, in seconds, where it is not the setting's.
    :ivar sweeps: how often they have looked at all jobs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = False
        self.jump = False
        self.margin: float | None = None
        self.sweeps = 0
        self._sweep, self._active = clocks._sweep, active_attempts
        monkeypatch.setattr(clocks, "_sweep", self.sweep)
        monkeypatch.setattr(clocks, "active_attempts", self.active)

    async def sweep(self, attempts: Any, sessions: Any, database: Any, presence: Any, patience: float) -> None:
        """Look at all jobs."""
        if self.margin is not None:
            attempts.settings = dataclasses.replace(attempts.settings, run_margin=self.margin)
        if self.jump:
            self.ahead, self.jump = True, False
            for live in attempts.live:
                live.killed_by -= AHEAD / 1e6
        if self.ahead:
            presence = Mock(seconds=lambda: math.inf, since=lambda: -math.inf)
        await self._sweep(attempts, sessions, database, presence, patience)
        self.sweeps += 1

    def active(self, tx: Any) -> Sequence[Any]:
        """Return the attempts that are not over."""
        rows: Sequence[Any] = [dict(row) for row in self._active(tx)]
        for row in rows if self.ahead else ():
            for name in ("run_deadline", "cancel_requested_at"):
                row[name] = row[name] and row[name] - AHEAD
        return rows

    async def looked(self) -> None:
        """Return once all jobs were looked at after now, more than once."""
        seen = self.sweeps
        await until(lambda: self.sweeps >= seen + 3)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Return the clocks' hands."""
    return Clocks(monkeypatch)


async def until(true: Callable[[], object]) -> None:
    """Wait for something."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


@pytest.mark.skipif(
    not small_disks() and not os.environ.get("CI"), reason="a disk of its own can be mounted by root only"
)
@pytest.mark.parametrize("how", ["timed-out", "cancelled"])
async def test_a_job_whose_log_finds_no_room_keeps_its_outcome(
    make_settings: Callable[..., Settings], tmp_path: Path, hands: Clocks, how: str
) -> None:
    """L01, W05: its worker can't tell of its end before its log is written, and is left alone with both until then."""
    settings = make_settings(log_level="warn")
    script = (
        f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; "
        f"seq 3000000 | tee {tmp_path}/printed; exit 3"
    )
    with SmallDisk(settings.data_dir / "logs", 64 << 20) as disk, capture_logs() as said:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(["sh", "-c", script], run_timeout=LONG)
            await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            disk.fill()
            (tmp_path / "go").touch()
            await until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())
            await until(lambda: any(each["event"] == "log.write_failed" for each in said))
            if how == "cancelled":
                await client.cancel(job, grace=1.0)
            hands.jump = True
            await hands.looked()
            disk.free()
            outcome = await client.wait(job)
            assert (outcome.cause, outcome.exit_code) == (types_pb2.CAUSE_EXIT_CODE, 3)
            assert (await client.receipt(job)).complete
            log = [event.data async for event in client.logs(job) if isinstance(event, Chunk)]
            assert b"".join(log) == (tmp_path / "printed").read_bytes()


async def test_a_grace_that_is_shortened_is_had_from_then_on(client: Client, tmp_path: Path, hands: Clocks) -> None:
    """W31, L01: its worker has that time, and the job its last words, however long ago it was cancelled first."""
    script = (
        f"trap 'touch {tmp_path}/told; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo bye; exit 0' TERM; "
        f"touch {tmp_path}/up; while :; do sleep 0.02; done"
    )
    job = await client.submit(["sh", "-c", script])
    await until((tmp_path / "up").exists)
    await client.cancel(job, grace=2 * AHEAD / 1e6)
    await until((tmp_path / "told").exists)
    hands.jump = True
    await hands.looked()
    await client.cancel(job, grace=LONG)
    await hands.looked()
    (tmp_path / "go").touch()
    assert (await client.wait(job)).state == types_pb2.JOB_STATE_CANCELLED
    assert (await client.receipt(job)).complete
    log = b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)])
    # The shell tells of what ended with it, too.
    assert log.endswith(b"bye\n")


class Stuck:
    """A worker that is played: its job goes on for ever, whatever its time, and says more and more.

    :ivar sequence: of the chunk that it sends next.
    """

    def __init__(self, stream: Any, run: worker_pb2.RunAttempt) -> None:
        self.stream = stream
        self.run = run
        self.sequence = run.first_sequence

    async def start(self) -> None:
        """Say that the job runs."""
        start = worker_pb2.AttemptStarted(attempt_uid=self.run.attempt_uid, epoch=self.run.epoch, pid=1)
        await self.stream.write(worker_pb2.ConnectRequest(started=start))

    async def go_on(self) -> None:
        """Print and print."""
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError, aio.UsageError):
            while True:
                chunk = log_pb2.LogChunk(
                    sequence=self.sequence, time_unix_nanos=1, stream=log_pb2.LOG_STREAM_STDOUT, data=b"more\n"
                )
                block = log_pb2.LogBlock(chunks=[chunk]).SerializeToString()
                blocks = worker_pb2.LogBlocks(attempt_uid=self.run.attempt_uid, epoch=self.run.epoch, block=block)
                await self.stream.write(worker_pb2.ConnectRequest(log=blocks))
                self.sequence += 1
                await asyncio.sleep(0.05)

    async def acknowledged(self, sequence: int) -> None:
        """Return once the chunk with a sequence is durable."""
        while (await Impostor.next_message(self.stream)).log_ack.next_sequence <= sequence:
            pass


@pytest.fixture
async def stuck(impostor: Cast) -> AsyncIterator[tuple[Stuck, Client, str]]:
    """Return such a worker, a client, and the job, which runs."""
    impersonator, client = impostor
    job = await client.submit(["true"], run_timeout=LONG)
    worker = Stuck(*await impersonator.connect(await impersonator.register()))
    await worker.start()
    going = asyncio.create_task(worker.go_on())
    async with asyncio.timeout(60):
        while (await client.get(job)).state != types_pb2.JOB_STATE_RUNNING:
            await asyncio.sleep(0.02)
    yield worker, client, job
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


async def test_a_worker_that_does_not_end_its_job_is_removed_though_there_is_always_more_of_its_log(
    stuck: tuple[Stuck, Client, str], hands: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W05: what is on its way to a disk that is slow, and fine, puts no clock off."""
    worker, client, job = stuck
    append, fast = FileLogStore.append, asyncio.Event()

    async def slow(self: FileLogStore, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        await fast.wait()
        return await append(self, batch)

    monkeypatch.setattr(FileLogStore, "append", slow)
    hands.jump = True
    async with asyncio.timeout(60):
        await Impostor.ended(worker.stream)
    fast.set()
    assert (await client.wait(job)).cause == types_pb2.CAUSE_RUN_TIMEOUT


async def test_a_worker_that_does_not_end_its_job_is_removed_once_its_log_can_be_written_again(
    stuck: tuple[Stuck, Client, str], hands: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W05: a full disk puts the run's clock off by no more than the margin."""
    worker, client, job = stuck
    append, full = FileLogStore.append, True

    async def without_room(self: FileLogStore, batch: Sequence[Append]) -> Sequence[LogStoreError | None]:
        return [StorageFullError("there is no room") for _ in batch] if full else await append(self, batch)

    with capture_logs() as said:
        monkeypatch.setattr(FileLogStore, "append", without_room)
        await until(lambda: any(each["event"] == "log.write_failed" for each in said))
    newest = worker.sequence
    hands.jump = True
    await hands.looked()
    assert (await client.get(job)).state == types_pb2.JOB_STATE_RUNNING
    full = False
    async with asyncio.timeout(60):
        await worker.acknowledged(newest)
        hands.margin = 0.0
        await Impostor.ended(worker.stream)
    assert (await client.wait(job)).cause == types_pb2.CAUSE_RUN_TIMEOUT
