"""Logs read wherever they lie and compared with their receipts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpc import aio

from hodei.v1 import log_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings, NotFoundError
from hodei_faults.logs import print_in_parts
from hodei_server.app import Server


async def found(client: Client, job: str = "") -> list[wire.VerifyLogsResponse]:
    """Return what logs are found to be."""
    return [response async for response in client.verify_logs(job)]


async def flip(path: Path, offset: int) -> None:
    """Turn one bit of a file over."""

    def change() -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    await asyncio.to_thread(change)


async def sealed(folder: Path, count: int) -> list[Path]:
    """Wait for so many segments to be sealed; return them in order."""
    async with asyncio.timeout(60):
        while len(found := sorted(folder.rglob("*.sealed"))) < count or any(folder.rglob("*.open")):
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("place", ["first", "middle", "last"])
async def test_a_flipped_bit_is_found_and_its_segment_named(make_settings: object, tmp_path: Path, place: str) -> None:
    """Among several segments of several logs, wherever the bit is."""
    assert callable(make_settings)
    settings = make_settings(log_segment="64KiB")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await print_in_parts(client, tmp_path, 3)
        other = await client.submit(["sh", "-c", "seq 10"])
        await client.wait(other)
        paths = await sealed(settings.data_dir / "logs", 3)
        before = await found(client)
        assert [log.job_id for log in before] == [job, other]
        assert {check.verdict for log in before for check in log.segments} == {wire.LOG_VERDICT_OK}
        assert sum(check.bytes for check in before[0].segments) == before[0].receipt.bytes
        chosen = paths[1]
        size = chosen.stat().st_size
        await flip(chosen, {"first": 9, "middle": size // 2, "last": size - 30}[place])
        after = await found(client)
        assert after[1] == before[1]
        wrong = [check for check in after[0].segments if check.verdict != wire.LOG_VERDICT_OK]
        assert [check.verdict for check in wrong] == [wire.LOG_VERDICT_CORRUPT]
        assert chosen.name.startswith(f"{after[0].attempt_uid}-{wrong[0].first_sequence:020d}")
        assert wrong[0].message


async def test_a_segment_that_is_not_there_is_missing(server: Server, client: Client) -> None:
    """It is not taken for an empty one."""
    job = await client.submit(["sh", "-c", "seq 30000"])
    await client.wait(job)
    [path] = await sealed(server.settings.data_dir / "logs", 1)
    path.unlink()
    [log] = await found(client, job)
    assert [check.verdict for check in log.segments] == [wire.LOG_VERDICT_MISSING]


async def test_what_a_log_has_dropped_is_no_fault(make_settings: object) -> None:
    """A cut is told as one; what is kept is read."""
    assert callable(make_settings)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", "seq 300000"], log_budget_bytes=1 << 20)
        await client.wait(job)
        [log] = await found(client, job)
        assert {check.verdict for check in log.segments} == {wire.LOG_VERDICT_OK, wire.LOG_VERDICT_CUT}


async def test_a_log_that_is_being_written_is_verified_as_far_as_it_is(client: Client) -> None:
    """Up to what was durable then."""
    job = await client.submit(["sh", "-c", "seq 30000; while :; do sleep 0.05; done"])
    async for event in client.logs(job):
        if isinstance(event, Chunk) and event.data.endswith(b"30000\n"):
            break
    [log] = await found(client, job)
    assert not log.receipt.ended
    assert [check.verdict for check in log.segments] == [wire.LOG_VERDICT_OK]
    assert log.segments[0].next_sequence > 0
    await client.cancel(job, force=True)


async def test_what_is_not_there_can_t_be_verified(client: Client) -> None:
    """NOT_FOUND; and a job has its tenant already."""
    with pytest.raises(NotFoundError):
        await found(client, "j0123456789abcdef")
    job = await client.submit(["true"])
    request = wire.VerifyLogsRequest(job_id=job, tenant="a")
    with pytest.raises(aio.AioRpcError, match="tenant"):
        [each async for each in client._connected.logs.VerifyLogs(request)]
