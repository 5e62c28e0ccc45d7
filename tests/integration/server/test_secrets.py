"""Secrets of jobs on a real server: they reach the job, and nothing else that is kept or shown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hodei.secrets import memory_folder
from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import (
    STDERR,
    STDOUT,
    SYSTEM,
    Chunk,
    Client,
    ClientSettings,
    ConflictError,
    InvalidRequestError,
    PreconditionError,
)
from hodei_faults.secrets import FILE_VALUE, VALUE, kept_rows, write_key
from hodei_server.app import Server
from hodei_server.settings import Settings, SettingsError

MakeSettings = Callable[..., Settings]


@pytest.fixture
async def server(make_secret_settings: MakeSettings) -> AsyncIterator[Server]:
    """Return a running server; its workers go with it."""
    async with Server(make_secret_settings(), ephemeral=True) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    """Give a client of a server."""
    async with Client(settings=ClientSettings(server.address)) as client:
        yield client


async def output(client: Client, job: str, *streams: int) -> bytes:
    """Return what a job wrote."""
    events = [event async for event in client.logs(job) if isinstance(event, Chunk)]
    return b"".join(event.data for event in events if event.stream in (streams or {STDOUT, STDERR, SYSTEM}))


def files_with(folder: Path, *values: bytes) -> list[str]:
    """Return the files below a folder that hold one of some values, in any form."""
    forms = {form for value in values for form in (value, base64.b64encode(value)[:16], quote(value, safe="").encode())}
    found: list[str] = []
    # What goes meanwhile, as a worker's folder does when its job has ended, is passed over.
    for path, _, names in os.walk(folder):
        for file in (Path(path) / name for name in names):
            with contextlib.suppress(OSError):
                if file.is_file() and any(form in file.read_bytes() for form in forms):
                    found.append(str(file))
    return found


SHOW = r"""
printf '%s\n' "$TOKEN" "$SHARED" >&2
printf %s "$TOKEN" | base64
printf 'user:%s@' "$TOKEN" | base64
printf %s "$TOKEN" | cut -c 1-10 | tr -d '\n'; sleep 0.1; printf %s "$TOKEN" | cut -c 11-
stat -c '%a %F' "$HODEI_SECRETS_DIR" "$HODEI_SECRETS_DIR/key.pem"
cat "$HODEI_SECRETS_DIR/key.pem"
echo "$HODEI_SECRETS_DIR" > folder
test "$TOKEN" = "$EXPECTED_HEAD+with/odd~signs" && cmp "$HODEI_SECRETS_DIR/key.pem" "$GIVEN" && echo "as it should be"
while [ ! -e go ]; do sleep 0.02; done
echo "end $TOKEN"
"""


def secrets_of_all_kinds() -> list[wire.Secret]:
    """Return a secret from each source, to each target."""
    return [
        wire.Secret(name="TOKEN", value=VALUE.encode()),
        wire.Secret(name="shared", server_variable="SHARED_TOKEN", variable="SHARED"),
        wire.Secret(name="key", server_file="key.pem", file="key.pem"),
    ]


async def test_secrets_reach_the_job_and_nothing_that_is_kept_or_shown(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """L23: printed, encoded and cut, a value is in no log, no database file, no answer and no line of the server's."""
    work = tmp_path / "work"
    work.mkdir()
    environment = {"EXPECTED_HEAD": "pa55word", "GIVEN": str(tmp_path / "given" / "key.pem")}
    async with connected(server) as client:
        job = await client.submit(
            ["sh", "-c", SHOW],
            secrets=secrets_of_all_kinds(),
            environment=environment,
            working_directory=str(work),
            request_id="once",
        )
        async with asyncio.timeout(60):
            while not (work / "folder").exists() or not (work / "folder").read_text().endswith("\n"):
                await asyncio.sleep(0.02)
        folder = Path((work / "folder").read_text().strip())
        assert (folder / "key.pem").read_bytes() == FILE_VALUE
        values = (VALUE.encode(), b"the-servers-own-token", b"MIIEpAIBAAKCAQEAs3cr3tk3y")
        assert [row[0] for row in kept_rows(server.settings)] == [job]
        while_it_runs = files_with(server.settings.data_dir, *values)
        (work / "go").touch()
        outcome = await client.wait(job)
        assert outcome.exit_code == 0
        seen = await output(client, job)
        told = [
            str(await client.get(job)),
            str(await client.explain(job)),
            str([event async for event in client.watch(job)]),
            str([each async for each in client.list()]),
            str([each async for each in client.decisions()]),
        ]
        assert (await client.receipt(job)).complete
    assert b"as it should be\n" in seen
    assert b"600 regular file\n" in seen
    assert b"700 directory\n" in seen
    assert seen.endswith(b"end ***\n")
    assert b"***\n***\n" in seen
    for value in values:
        for form in (value, base64.b64encode(value)[:16], base64.b64encode(b"user:" + value)[8:24], value[8:]):
            assert form not in seen, form
    assert not folder.exists()
    assert not while_it_runs
    assert not files_with(server.settings.data_dir, *values)
    assert not [value for value in values for text in told if value.decode() in text]
    assert all(name in told[0] for name in ("TOKEN", "SHARED_TOKEN", "key.pem"))
    printed = capfd.readouterr()
    assert not [value for value in values if value.decode() in printed.out + printed.err]
    assert kept_rows(server.settings) == []


async def waiting_job(server: Server, **fields: Any) -> str:
    """Submit a job that no provider takes yet."""
    async with connected(server) as client:
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        return await client.submit(["sh", "-c", "echo $TOKEN; echo ${#TOKEN}"], **fields)


async def outcome_of(server: Server, job: str) -> tuple[wire.Outcome, bytes]:
    """Let a job that waits be taken; return how it ends and what it wrote."""
    async with connected(server) as client:
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
        return await client.wait(job), await output(client, job)


async def test_a_job_that_waits_has_its_secrets_after_a_restart(
    make_secret_settings: MakeSettings, tmp_path: Path
) -> None:
    """Values outlive the server, and the key may be replaced while the file still holds the old one."""
    async with Server(make_secret_settings(), ephemeral=True) as first:
        job = await waiting_job(first, secrets={"TOKEN": VALUE}, request_id="once")
    write_key(tmp_path / "keys", b"n" * 32, b"k" * 32)
    async with Server(make_secret_settings(), ephemeral=True) as second:
        async with connected(second) as client:
            again = ["sh", "-c", "echo $TOKEN; echo ${#TOKEN}"]
            assert await client.submit(again, secrets={"TOKEN": VALUE}, request_id="once") == job
        outcome, seen = await outcome_of(second, job)
    assert (outcome.exit_code, seen) == (0, f"***\n{len(VALUE)}\n".encode())
    assert kept_rows(second.settings) == []


async def test_a_server_without_the_key_of_what_it_keeps_does_not_start(
    make_secret_settings: MakeSettings, tmp_path: Path
) -> None:
    """A key that is missing costs no job, until the operator says that it is lost; then its jobs fail, and say why."""
    async with Server(make_secret_settings(), ephemeral=True) as first:
        job = await waiting_job(first, secrets={"TOKEN": VALUE})
    other = write_key(tmp_path / "other", b"o" * 32)
    for key in ("", other):
        with pytest.raises(SettingsError, match=r"HODEI_SECRETS_KEY_FILE: the secrets of 1 .*HODEI_SECRETS_LOST_KEY"):
            async with Server(make_secret_settings(secrets_key_file=key), ephemeral=True):
                pass
    lost = make_secret_settings(secrets_key_file=other, secrets_lost_key="fail")
    async with Server(lost, ephemeral=True) as second:
        outcome, seen = await outcome_of(second, job)
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_SECRET)
    assert "HODEI_SECRETS_KEY_FILE does not hold" in outcome.message
    assert outcome.message.encode() in seen
    assert kept_rows(lost) == []


async def test_a_reference_that_is_gone_fails_the_job_with_its_name(server: Server, tmp_path: Path) -> None:
    """What a job refers to is read when it starts; by then it may be gone, and the job is told which."""
    job = await waiting_job(server, secrets=[wire.Secret(name="TOKEN", server_file="key.pem")])
    (tmp_path / "given" / "key.pem").unlink()
    outcome, _ = await outcome_of(server, job)
    assert outcome.cause == wire.CAUSE_SECRET
    assert "TOKEN" in outcome.message
    assert "key.pem is no file" in outcome.message


async def test_attempts_of_a_job_have_its_secrets_until_it_has_ended(server: Server, tmp_path: Path) -> None:
    """A retry within the job has them again; once it has ended they are gone, and a new job needs them again."""
    script = f"echo ${{#TOKEN}}; [ -e {tmp_path}/second ] || {{ touch {tmp_path}/second; exit 1; }}"
    policy = wire.RetryPolicy(max_attempts=2)
    policy.initial_backoff.FromMilliseconds(1)
    async with connected(server) as client:
        job = await client.submit(["sh", "-c", script], secrets={"TOKEN": VALUE}, retry=policy)
        assert (await client.wait(job)).exit_code == 0
        assert len((await client.get(job)).attempts) == 2
        assert await output(client, job) == f"{len(VALUE)}\n".encode()
        with pytest.raises(PreconditionError, match=r"erased.*give again: TOKEN"):
            await client.retry(job)
        with pytest.raises(InvalidRequestError, match=r"secrets\[0\].name is no secret of the job"):
            await client.retry(job, secrets={"OTHER": VALUE})
        with pytest.raises(InvalidRequestError, match=r"secrets\[0\].value has fewer"):
            await client.retry(job, secrets={"TOKEN": "short"})
        again = await client.retry(job, secrets={"TOKEN": VALUE + VALUE}, request_id="again")
        assert await client.retry(job, secrets={"TOKEN": VALUE + VALUE}, request_id="again") == again
        with pytest.raises(ConflictError):
            await client.retry(job, secrets={"TOKEN": VALUE}, request_id="again")
        assert (await client.wait(again)).exit_code == 0
        assert await output(client, again) == f"{2 * len(VALUE)}\n".encode()


async def test_a_job_of_references_is_retried_as_it_is(server: Server) -> None:
    """Nothing of them was kept, so nothing of them was erased."""
    async with connected(server) as client:
        job = await client.submit(["sh", "-c", "echo $T"], secrets={"T": wire.Secret(server_variable="SHARED_TOKEN")})
        await client.wait(job)
        again = await client.retry(job)
        assert (await client.wait(again)).exit_code == 0
        assert await output(client, again) == b"***\n"


async def test_what_the_worker_itself_says_is_redacted(server: Server) -> None:
    """L23: a program that is not there may have a secret in its name; the log and the outcome leave it out."""
    async with connected(server) as client:
        spec = wire.JobSpec(argv=["/no/the-servers-own-token"])
        job = await client.submit(spec, secrets={"T": wire.Secret(server_variable="SHARED_TOKEN")})
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_EXEC_FAILED
        assert outcome.message == "/no/***: not found"
        assert await output(client, job) == b"hodei: /no/***: not found\n"


async def test_what_a_killed_worker_leaves_in_memory_is_removed(server: Server, tmp_path: Path) -> None:
    """L23: the files of a job whose worker was killed go with it."""
    async with connected(server) as client:
        script = (
            f"echo $HODEI_SECRETS_DIR > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/folder; kill -9 $PPID; sleep 60"
        )
        secrets = {"T": wire.Secret(value=VALUE.encode(), file="token")}
        job = await client.submit(
            ["sh", "-c", script], secrets=secrets, retry=wire.RetryPolicy(max_infrastructure_retries=0)
        )
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_WORKER_LOST
        (attempt,) = (await client.get(job)).attempts
    folder = Path((tmp_path / "folder").read_text().strip())
    assert not folder.exists()
    if os.path.ismount("/dev/shm"):
        assert folder == memory_folder(attempt.worker_id)
