"""What becomes of logs after their jobs have ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hodei_client import AttemptEnd, Chunk, Client, ClientSettings
from hodei_server.app import Server


async def files(folder: Path, pattern: str, count: int) -> None:
    """Wait until there are so many files."""
    async with asyncio.timeout(60):
        while len(list(folder.rglob(pattern))) != count:
            await asyncio.sleep(0.05)


async def test_logs_are_compressed_after_the_end_and_read_the_same(server: Server, client: Client) -> None:
    """L19, L20: for every outcome; the open form goes when the other is there."""
    jobs = [await client.submit(["sh", "-c", f"seq 1000; exit {code}"]) for code in (0, 1)]
    for job in jobs:
        await client.wait(job)
    await files(server.settings.data_dir / "logs", "*.sealed", 2)
    await files(server.settings.data_dir / "logs", "*.open", 0)
    expected = b"".join(b"%d\n" % number for number in range(1, 1001))
    for job in jobs:
        events = [event async for event in client.logs(job)]
        assert b"".join(event.data for event in events if isinstance(event, Chunk)) == expected
        assert (await client.receipt(job)).complete


async def test_logs_go_when_their_time_has_passed_and_the_receipt_stays(make_settings: object) -> None:
    """L21, L22: by the recorded end; a running job's log is never touched."""
    assert callable(make_settings)
    async with (
        Server(make_settings(retention_interval="100ms"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        running = await client.submit(["sh", "-c", "echo here; sleep 600"], log_ttl=0.001)
        ended = await client.submit(["echo", "gone"], log_ttl=0.001)
        await client.wait(ended)
        async with asyncio.timeout(60):
            while not (await client.receipt(ended)).expired:
                await asyncio.sleep(0.05)
        events = [event async for event in client.logs(ended)]
        assert len(events) == 1
        assert isinstance(events[0], AttemptEnd)
        assert (events[0].receipt.bytes, events[0].receipt.expired) == (5, True)
        async for event in client.logs(running):
            assert isinstance(event, Chunk)
            assert event.data == b"here\n"
            break
        await client.cancel(running, force=True)
        await client.wait(running)
