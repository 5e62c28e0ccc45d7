"""Archived logs, compared with their receipts: what was damaged in the bucket, or is not there any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hodei.v1 import log_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.logs import print_in_parts
from hodei_logstore.objects import key_of
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


def segments(s3: Any, bucket: str, attempt_uid: str) -> list[str]:
    """Return the names of a log's segments in a bucket, in order."""
    names = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
    return sorted(name for name in names if f"/{attempt_uid}/" in name and name.endswith(".sealed"))


def first_sequence(name: str) -> int:
    """Return the first sequence of an object's segment, by its name."""
    key = key_of("/".join(name.split("/")[-2:]))
    assert key is not None
    return key.first_sequence


async def verdicts(client: Client, job: str = "") -> dict[tuple[str, int], wire.LogVerdict.ValueType]:
    """Return what each segment was found to be, by its job and its first sequence."""
    return {
        (log.job_id, check.first_sequence): check.verdict
        async for log in client.verify_logs(job)
        for check in log.segments
    }


async def test_an_archived_log_that_is_damaged_or_missing_is_told_with_its_segment(
    make_settings: MakeSettings, s3: Any, bucket_name: str, hodei: Any, tmp_path: Path
) -> None:
    """L20: wherever the bit is; the other segments and logs are sound, and so is this one once it is put right."""
    settings = make_settings(log_segment="64Ki")
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await print_in_parts(client, tmp_path, 3)
        other = await client.submit(["seq", "10"])
        await client.wait(other)
        async with asyncio.timeout(60):
            while any(path.is_file() for path in (settings.data_dir / "logs").rglob("*")):
                await asyncio.sleep(0.05)
        names = segments(s3, bucket_name, (await client.receipt(job)).attempt_uid)
        sound = await verdicts(client)
        assert len(names) >= 3
        assert [sequence for owner, sequence in sound if owner == job] == [first_sequence(name) for name in names]
        assert [owner for owner, _ in sound].count(other) == 1
        assert set(sound.values()) == {wire.LOG_VERDICT_OK}

        chosen = names[1]
        wrong = (job, first_sequence(chosen))
        body = s3.get_object(Bucket=bucket_name, Key=chosen)["Body"].read()
        for offset in (9, len(body) // 2, len(body) - 30):
            damaged = bytearray(body)
            damaged[offset] ^= 1
            s3.put_object(Bucket=bucket_name, Key=chosen, Body=bytes(damaged))
            assert await verdicts(client) == sound | {wrong: wire.LOG_VERDICT_CORRUPT}
        await said(server, hodei, wrong, b"corrupt")
        s3.put_object(Bucket=bucket_name, Key=chosen, Body=body)
        assert await verdicts(client, job) == {key: verdict for key, verdict in sound.items() if key[0] == job}

        s3.delete_object(Bucket=bucket_name, Key=chosen)
        assert await verdicts(client) == sound | {wrong: wire.LOG_VERDICT_MISSING}
        await said(server, hodei, wrong, b"missing")
        code, out, err = await hodei(server, "logs", "verify", other)
        assert (code, err) == (0, b"1 logs read, 0 are not what their receipts say\n")
        assert b" ok" in out


async def said(server: Server, hodei: Any, wrong: tuple[str, int], verdict: bytes) -> None:
    """See that the command says of one segment that it is wrong, and of no other."""
    job, sequence = wrong
    for arguments, count in (((job,), b"1"), (("--all",), b"2")):
        code, out, err = await hodei(server, "logs", "verify", *arguments)
        assert (code, err) == (1, count + b" logs read, 1 are not what their receipts say\n")
        header, *rows = [line.split() for line in out.splitlines()]
        assert header[:5] == [b"JOB", b"ATTEMPT", b"SEGMENT", b"BYTES", b"VERDICT"]
        assert [row[2] for row in rows if row[4] != b"ok"] == [b"%d" % sequence]
        assert [row[4] for row in rows if row[4] != b"ok"] == [verdict]
        assert {row[0] for row in rows} == {job.encode()}
