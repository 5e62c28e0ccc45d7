"""All that is known of a job, in one archive that anyone may be given."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from hodei.v1 import provider_pb2, worker_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client
from hodei_server.app import Server

EVERYWHERE = {"bundle.json", "decisions.json", "explain.json", "history.json", "job.json", "spec.json", "usage.json"}
OF_ATTEMPTS = {"receipt.json", "last-output.log", "system.log"}


def content(archive: bytes, job: str) -> dict[str, bytes]:
    """Return the files of an archive by their names below its one folder."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            folder, _, name = entry.name.partition("/")
            assert (folder, entry.isfile(), entry.uid, entry.mode) == (f"hodei-{job}", True, 0, 0o600)
            file = tar.extractfile(entry)
            assert file is not None
            assert name not in found
            found[name] = file.read()
    return found


def decoded(files: dict[str, bytes]) -> dict[str, Any]:
    """Return what is in the files of JSON."""
    return {name: json.loads(data) for name, data in files.items() if name.endswith(".json")}


async def test_a_job_that_has_ended_is_told_whole(server: Server, client: Client, hodei: Any, tmp_path: Path) -> None:
    """Of each attempt; and twice the same bytes, as nothing of it changes any more."""
    script = "echo to stdout; echo to stderr >&2; read line; exit 3"
    job = await client.submit(
        ["sh", "-c", script],
        retry=wire.RetryPolicy(max_attempts=2),
        environment={"MODE": "fast", "API_TOKEN": "hunter2-token", "DATABASE_URL": "postgresql://u:hunter2@h/d"},
        stdin=b"hunter2-stdin\n",
    )
    await client.wait(job)
    code, out, err = await hodei(server, "bundle", job)
    assert (code, out, err) == (0, f"hodei-{job}.tar.gz\n".encode(), b"")
    archive = (tmp_path / f"hodei-{job}.tar.gz").read_bytes()
    files = content(archive, job)
    assert set(files) == EVERYWHERE | {f"attempts/{number}/{name}" for number in (1, 2) for name in OF_ATTEMPTS}
    told = decoded(files)
    assert sorted([*told["bundle.json"]["files"], "bundle.json"]) == sorted(files)
    assert told["bundle.json"]["left_out"] == ["environment.API_TOKEN", "environment.DATABASE_URL", "stdin"]
    assert told["spec.json"]["argv"] == ["sh", "-c", script]
    assert told["spec.json"]["environment"]["MODE"] == "fast"
    assert b"hunter2" not in b"".join(files.values())
    assert told["job.json"]["state"] == "JOB_STATE_FAILED"
    states = [event["state"] for event in told["history.json"]]
    assert states[0] == "JOB_STATE_QUEUED"
    assert states[-1] == "JOB_STATE_FAILED"
    assert [decision["attempt_number"] for decision in told["decisions.json"]] == [1, 2]
    assert told["explain.json"]["diagnosis"]
    assert [each["attempt"] for each in told["usage.json"]] == [1, 2]
    assert all(each["cpu_seconds"] is not None and each["ran_seconds"] is not None for each in told["usage.json"])
    for number in (1, 2):
        assert told[f"attempts/{number}/receipt.json"]["complete"]
        assert sorted(files[f"attempts/{number}/last-output.log"].splitlines()) == [b"to stderr", b"to stdout"]
    code, out, _ = await hodei(server, "bundle", job, "--file", "-")
    assert (code, out) == (0, archive)
    code, _, err = await hodei(server, "bundle", job)
    assert code == 2
    assert b"is there already" in err


async def test_whole_logs_come_along_where_they_are_asked_for(server: Server, client: Client, hodei: Any) -> None:
    """Byte for byte, each stream by itself."""
    job = await client.submit(["sh", "-c", "seq 100000; printf 'no\\0newline' >&2"])
    await client.wait(job)
    code, out, _ = await hodei(server, "bundle", job, "--logs", "--file", "-")
    files = content(out, job)
    assert code == 0
    assert files["attempts/1/stdout.log"] == b"".join(b"%d\n" % number for number in range(1, 100_001))
    assert files["attempts/1/stderr.log"] == b"no\0newline"
    assert files["attempts/1/last-output.log"].count(b"\n") <= 1000


async def test_a_job_that_waits_has_no_attempts_to_tell_of(server: Server, client: Client, hodei: Any) -> None:
    """All else is there: why it waits, too."""
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
    job = await client.submit(["true"])
    code, out, _ = await hodei(server, "bundle", job, "--file", "-")
    files = content(out, job)
    assert code == 0
    assert set(files) == EVERYWHERE
    told = decoded(files)
    assert told["explain.json"]["queue_position"] == "1"
    assert told["usage.json"] == []
    code, _, err = await hodei(server, "bundle", "j0000000000000000")
    assert (code, err) == (125, b"hodei: there is no job j0000000000000000\n")


async def test_neither_token_of_a_worker_is_in_what_is_told_of_its_job(
    impostor: tuple[Any, Client], hodei: Any
) -> None:
    """W24: while the job runs, and the worker's session is worth something."""
    worker, client = impostor
    job = await client.submit(["true"])
    worker_id, otp = await worker.credentials()
    token = await worker.register(worker_id, otp)
    stream, run = await worker.connect(token)
    started = worker_pb2.AttemptStarted(attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1)
    await stream.write(worker_pb2.ConnectRequest(started=started))
    async for response in client.watch(job):
        if response.event.state == wire.JOB_STATE_RUNNING:
            break
    code, out, err = await hodei(worker.server, "bundle", job, "--logs", "--file", "-")
    files = content(out, job)
    assert (code, err) == (0, b"")
    assert decoded(files)["job.json"]["state"] == "JOB_STATE_RUNNING"
    assert "attempts/1/system.log" in files
    for secret in (otp, token):
        assert secret.encode() not in b"".join(files.values())
    await client.cancel(job, force=True)


async def test_a_part_that_cannot_be_had_is_told_and_the_rest_is_there(
    server: Server, client: Client, hodei: Any
) -> None:
    """L20: a log that is damaged keeps nobody from what is known beside it; the exit code says that it is missing."""
    job = await client.submit(["seq", "30000"])
    await client.wait(job)
    async with asyncio.timeout(60):
        logs = server.settings.data_dir / "logs"
        while not (found := list(logs.rglob("*.sealed"))) or list(logs.rglob("*.open")):
            await asyncio.sleep(0.05)
    [path] = found
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    code, out, err = await hodei(server, "bundle", job, "--file", "-")
    files = content(out, job)
    assert code == 1
    assert b"attempts/1/log is missing: " in err
    assert set(files) == EVERYWHERE | {"attempts/1/receipt.json"}
    assert set(decoded(files)["bundle.json"]["missing"]) == {"attempts/1/last-output.log", "attempts/1/log"}
