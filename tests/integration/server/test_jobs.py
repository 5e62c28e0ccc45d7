"""Jobs from submission to end, over a real server and real workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import (
    STDERR,
    STDOUT,
    AttemptEnd,
    Chunk,
    Client,
    ConflictError,
    InvalidRequestError,
    LogEvent,
    LogPlace,
    NotFoundError,
    PlainClient,
    PreconditionError,
)
from hodei_client.settings import ClientSettings
from hodei_faults.logs import read
from hodei_server.app import Server
from hodei_server.db.database import Database
from hodei_server.db.transaction import Transaction
from hodei_server.work.look import Look


async def test_a_job_runs_and_its_streams_are_kept_apart(client: Client) -> None:
    """L03, L16: output of a job that lives for an instant is whole, each stream for itself."""
    job = await client.submit(["sh", "-c", "echo out; echo err >&2; exit 7"])
    outcome = await client.wait(job)
    assert (outcome.state, outcome.cause, outcome.exit_code) == (wire.JOB_STATE_FAILED, wire.CAUSE_EXIT_CODE, 7)
    assert await read(client, job) == b"out\n"
    assert await read(client, job, STDERR) == b"err\n"


async def test_streams_that_take_turns_are_each_whole_and_in_order(client: Client, tmp_path: Path) -> None:
    """L16: the sequence tells in which order the output was read, and each chunk of which stream it is."""
    turns = "i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done"
    job = await client.submit(["sh", "-c", f"{turns}; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo last >&2"])
    chunks: list[Chunk] = []
    async for event in client.logs(job):
        if isinstance(event, Chunk):
            chunks.append(event)
            if sum(chunk.data.count(b"\n") for chunk in chunks) == 600:
                (tmp_path / "go").touch()
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    for stream, name, end in ((STDOUT, "out", ""), (STDERR, "err", "last\n")):
        data = b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
        assert data.decode() == "".join(f"{name} {number}\n" for number in range(300)) + end
    assert (chunks[-1].stream, chunks[-1].data) == (STDERR, b"last\n")


async def test_all_byte_values_come_through(client: Client) -> None:
    """L11, L12, L13: bytes end to end, with and without newlines."""
    job = await client.submit(
        ["python3", "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)"], name="bytes"
    )
    assert await read(client, job) == bytes(range(256)) * 4096
    receipt = await client.receipt(job)
    assert (receipt.bytes, receipt.lines, receipt.complete) == (1 << 20, 4096, True)


async def test_a_follower_that_joins_late_or_twice_sees_the_same(client: Client) -> None:
    """L02, L04, L25: history and live are one sequence from 0."""
    job = await client.submit(["sh", "-c", "for i in $(seq 2000); do echo line $i; done"])
    early = asyncio.create_task(read(client, job))
    await client.wait(job)
    expected = b"".join(b"line %d\n" % number for number in range(1, 2001))
    assert await early == expected
    assert await read(client, job) == expected


@pytest.mark.parametrize(("lines", "first"), [(1, 100), (10, 91), (100, 1), (1000, 1)])
async def test_the_last_lines_are_exactly_as_many(client: Client, lines: int, first: int) -> None:
    """A tail begins at the beginning of a line."""
    job = await client.submit(["seq", "100"])
    await client.wait(job)
    tail = await read(client, job, place=LogPlace(tail=lines))
    assert tail == b"".join(b"%d\n" % number for number in range(first, 101))


async def test_a_signal_is_no_exit_code(client: Client) -> None:
    """W07: a killed process has a signal and no exit code."""
    outcome = await client.wait(await client.submit(["sh", "-c", "kill -9 $$"]))
    assert (outcome.cause, outcome.signal, outcome.HasField("exit_code")) == (wire.CAUSE_SIGNAL, 9, False)


async def test_a_program_that_is_not_there_is_told_apart(client: Client) -> None:
    """127 as in a shell, and the cause says that nothing ran."""
    outcome = await client.wait(await client.submit(["/no/such/program"]))
    assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_EXEC_FAILED, 127)


async def test_a_run_timeout_of_a_fraction_of_a_second_holds(client: Client) -> None:
    """W40: durations are exact."""
    outcome = await client.wait(await client.submit(["sleep", "600"], run_timeout=0.2))
    assert (outcome.state, outcome.cause) == (wire.JOB_STATE_TIMED_OUT, wire.CAUSE_RUN_TIMEOUT)


async def test_a_cancel_reaches_the_process_and_all_it_started(client: Client, tmp_path: Path) -> None:
    """W17, W31: the job ends as cancelled once nothing of it runs."""
    script = f"(setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 600') & echo $$ > {tmp_path}/leader; wait"
    job = await client.submit(["sh", "-c", f"{script}; sleep 600"])
    async for event in client.watch(job):
        if event.event.state == wire.JOB_STATE_RUNNING:
            break
    async with asyncio.timeout(30):
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in ("child", "leader")):
            await asyncio.sleep(0.02)
    await client.cancel(job, grace=0.1)
    outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_CANCELLED
    for name in ("child", "leader"):
        pid = int((tmp_path / name).read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_cancel_with_both_a_grace_and_force_is_refused(client: Client) -> None:
    """W38: one of the two would be dropped; the job goes on."""
    job = await client.submit(["sleep", "600"])
    for grace in (0, 60):
        with pytest.raises(InvalidRequestError) as refused:
            await client.cancel(job, grace=grace, force=True)
        assert [violation.field for violation in refused.value.violations] == ["grace"]
    assert not (await client.get(job)).HasField("cancel_request_time")
    await client.cancel(job, force=True)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED


async def test_a_retry_goes_on_in_the_same_follow(client: Client, tmp_path: Path) -> None:
    """A follower is told that another attempt follows, and gets it."""
    script = f"echo attempt $HODEI_ATTEMPT; test -e {tmp_path}/seen || {{ touch {tmp_path}/seen; exit 1; }}"
    job = await client.submit(
        ["sh", "-c", script], retry=wire.RetryPolicy(max_attempts=2, initial_backoff=Duration(nanos=1))
    )
    events = [event async for event in client.logs(job, place=LogPlace(attempt=1))]
    chunks = [event for event in events if isinstance(event, Chunk) and event.stream == STDOUT]
    ends = [event for event in events if isinstance(event, AttemptEnd)]
    assert [(chunk.attempt_number, chunk.data) for chunk in chunks] == [(1, b"attempt 1\n"), (2, b"attempt 2\n")]
    assert [end.another for end in ends] == [True, False]
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


async def test_a_job_that_is_retried_on_an_exit_code_is_not_on_a_signal(client: Client) -> None:
    """W38, W07: codes restrict what is retried, they don't come on top of it."""
    retry = wire.RetryPolicy(max_attempts=3, on_exit_codes=[75], initial_backoff=Duration(nanos=1))
    job = await client.submit(["sh", "-c", "test $HODEI_ATTEMPT -gt 1 || exit 75; kill -9 $$"], retry=retry)
    outcome = await client.wait(job)
    assert (outcome.cause, outcome.signal) == (wire.CAUSE_SIGNAL, 9)
    assert len((await client.get(job)).attempts) == 2


async def test_a_job_that_never_ran_ends_its_log(client: Client) -> None:
    """L26: with an empty receipt and the outcome."""
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)

    async def events(job: str) -> list[LogEvent]:
        return [event async for event in client.logs(job)]

    job = await client.submit(["true"])
    followed_before = asyncio.create_task(events(job))
    await asyncio.sleep(0.2)
    assert not followed_before.done()
    await client.cancel(job)
    async with asyncio.timeout(30):
        for (end,) in (await followed_before, await events(job)):
            assert isinstance(end, AttemptEnd)
            assert (end.receipt.complete, end.receipt.chunks) == (True, 0)
            assert end.outcome is not None
            assert end.outcome.state == wire.JOB_STATE_CANCELLED


async def test_the_budget_cuts_the_middle_and_says_so(client: Client) -> None:
    """L14, L15: head and tail are kept, the cut is marked and counted."""
    job = await client.submit(["python3", "-c", "for i in range(400000): print(f'{i:015d}')"], log_budget_bytes=1 << 20)
    await client.wait(job)
    receipt = await client.receipt(job)
    assert (receipt.lines, receipt.bytes, receipt.complete, receipt.truncated) == (400000, 6400000, True, True)
    events = [event async for event in client.logs(job)]
    shown = b"".join(event.data for event in events if isinstance(event, Chunk))
    cut = sum(each.bytes for each in receipt.cuts)
    assert len(shown) + cut == receipt.bytes
    assert shown.startswith(b"000000000000000\n")
    assert shown.endswith(b"000000000399999\n")


async def test_the_plain_client_does_the_same(server: Server) -> None:
    """Submit, iterate over the log, wait, without asyncio."""

    def work() -> tuple[bytes, int]:
        with PlainClient(settings=ClientSettings(server.address)) as hodei:
            job = hodei.submit(["echo", "plain"])
            data = b"".join(event.data for event in hodei.logs(job) if isinstance(event, Chunk))
            return data, hodei.wait(job).state

    assert await asyncio.to_thread(work) == (b"plain\n", wire.JOB_STATE_SUCCEEDED)


async def test_what_is_wrong_comes_as_a_typed_error(client: Client) -> None:
    """With the fields where fields are wrong, and nothing stored."""
    with pytest.raises(InvalidRequestError) as caught:
        await client.submit([""], priority=5000)
    assert {violation.field for violation in caught.value.violations} == {"spec.argv[0]", "spec.priority"}
    assert len(caught.value.trace_id) == 32
    with pytest.raises(PreconditionError, match="image"):
        await client.submit(["true"], image="debian:stable-slim")
    with pytest.raises(NotFoundError, match="jnothing"):
        await client.get("jnothing")
    with pytest.raises(NotFoundError):
        [event async for event in client.logs("jnothing")]
    assert [job async for job in client.list()] == []


async def test_a_request_id_makes_one_job(client: Client) -> None:
    """A lost answer can be asked for again."""
    first = await client.submit(["true"], request_id="once")
    assert await client.submit(["true"], request_id="once") == first
    with pytest.raises(ConflictError):
        await client.submit(["false"], request_id="once")


async def test_a_retried_job_is_a_new_one(client: Client) -> None:
    """Only an ended job can be retried."""
    job = await client.submit(["true"])
    await client.wait(job)
    again = await client.retry(job)
    assert (await client.get(again)).retry_of == job
    assert (await client.wait(again)).state == wire.JOB_STATE_SUCCEEDED


async def test_arguments_and_stdin_arrive_as_they_were_given(client: Client) -> None:
    """W39, W41: no shell in between; stdin is closed unless given."""
    job = await client.submit(["printf", "%s|", "a b", "$HOME", "*", ""])
    assert await read(client, job) == b"a b|$HOME|*||"
    assert await read(client, await client.submit(["cat"])) == b""
    given = await client.submit(["cat"], stdin=b"\x00given\n" * 100_000)
    assert await read(client, given) == b"\x00given\n" * 100_000


async def test_explain_and_watch_tell_the_same_story(client: Client) -> None:
    """Every state change with its reason."""
    job = await client.submit(["true"])
    watched = [response.event async for response in client.watch(job)]
    explained = await client.explain(job)
    assert list(explained.events) == watched
    assert [event.version for event in watched] == list(range(1, len(watched) + 1))
    resumed = [response.event async for response in client.watch(job, after_version=2)]
    assert resumed == watched[2:]


async def test_a_follow_that_comes_with_the_dispatch_waits_for_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L06: an attempt is written down a moment before its log is open; a follower in between is not sent away."""
    dispatched, go = asyncio.Event(), asyncio.Event()
    real = Database.write

    async def write(self: Database, function: Callable[[Transaction], Any]) -> Any:
        done = await real(self, function)
        if isinstance(done, Look) and done.given:
            dispatched.set()
            await go.wait()
        return done

    monkeypatch.setattr(Database, "write", write)
    job = await client.submit(["echo", "late"])
    await dispatched.wait()
    following = asyncio.create_task(read(client, job))
    async with asyncio.timeout(60):
        while (await client.get(job)).state != wire.JOB_STATE_STARTING or following.done():
            await asyncio.sleep(0.01)
    _, pending = await asyncio.wait({following}, timeout=0.3)
    assert pending
    go.set()
    assert await following == b"late\n"
