"""A worker process against a scripted server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import log_pb2, types_pb2
from hodei.v1 import worker_pb2 as wire
from hodei_server.domain.errors import UnavailableError
from hodei_server.rpc.errors import status_of
from hodei_worker.backoff import bound

HOUR = 3600 * 10**9
OUT, ERR = log_pb2.LOG_STREAM_STDOUT, log_pb2.LOG_STREAM_STDERR


async def test_the_streams_are_kept_apart_and_the_exit_code_arrives(server: Any, run_worker: Any) -> None:
    """Both streams, the code, the counts (L01, L16)."""
    assert await run_worker("sh", "-c", "echo out; echo err >&2; exit 7") == 0
    (result,) = server.results
    assert (server.data(OUT), server.data(ERR)) == (b"out\n", b"err\n")
    assert (result.cause, result.exit_code) == (types_pb2.CAUSE_EXIT_CODE, 7)
    assert (result.next_sequence, result.log_checksum) == (server.next_sequence, server.checksum())


async def test_every_byte_value_and_a_burst_arrive_whole(server: Any, run_worker: Any) -> None:
    """50 MB of all 256 values (L11, L12, L13)."""
    code = "import sys; [sys.stdout.buffer.write(bytes(range(256)) * 4096) for _ in range(50)]"
    assert await run_worker(sys.executable, "-c", code) == 0
    assert server.data(OUT) == bytes(range(256)) * 4096 * 50
    assert server.results[0].log_checksum == server.checksum()


async def test_a_broken_stream_leaves_no_gap_and_no_repeat(server: Any, run_worker: Any) -> None:
    """The second hello tells the held attempt, and the log goes on (L05, L28)."""
    server.break_after_chunks = 3
    assert await run_worker("sh", "-c", "seq 1 400000") == 0
    assert server.data(OUT) == b"".join(b"%d\n" % n for n in range(1, 400001))
    assert [held.attempt_uid for held in server.hellos[1].attempts] == ["a"]


async def test_a_result_is_repeated_until_acknowledged(server: Any, run_worker: Any) -> None:
    """Twice the stream breaks on it (W32)."""
    server.results_to_leave_unanswered = 2
    assert await run_worker("true") == 0
    assert len(server.results) == 3


async def test_a_tiny_run_timeout_is_exact_in_kind(server: Any, run_worker: Any) -> None:
    """0.2 s is not 0 (W40)."""
    server.spec.run_timeout.FromMilliseconds(200)
    assert await run_worker("sleep", "1000") == 0
    assert (server.results[0].cause, server.results[0].signal) == (types_pb2.CAUSE_RUN_TIMEOUT, 15)


async def test_a_cancel_reaches_the_process(server: Any, run_worker: Any) -> None:
    """With no grace it is killed at once (W17, W31)."""
    server.cancel_on_start = wire.CancelAttempt(attempt_uid="a", epoch=1, cause=types_pb2.CAUSE_CANCELLED)
    server.cancel_on_start.grace.FromSeconds(0)
    assert await run_worker("sleep", "1000") == 0
    assert (server.results[0].cause, server.results[0].signal) == (types_pb2.CAUSE_CANCELLED, 9)


async def test_a_background_child_can_not_hold_the_job(server: Any, run_worker: Any) -> None:
    """The drain is bounded and said so (W17, W18)."""
    assert await run_worker("sh", "-c", "sleep 1000 & echo done", HODEI_DRAIN_TIMEOUT="0.2") == 0
    assert server.results[0].output_left_open
    assert server.data(OUT) == b"done\n"


async def test_what_a_job_has_left_behind_in_a_session_of_its_own_ends_with_it(
    server: Any, run_worker: Any, tmp_path: Path
) -> None:
    """Nothing that descends from a job outlives it (W17)."""
    file = tmp_path / "stray"
    stray = f"setsid sh -c 'echo $$ > {file}; exec sleep 600' > /dev/null 2>&1 &"
    assert await run_worker("sh", "-c", f"{stray} while [ ! -s {file} ]; do sleep 0.02; done") == 0
    assert server.results[0].exit_code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


async def test_a_job_that_leaves_thousands_of_folders_in_each_other_ends(
    server: Any, run_worker: Any, tmp_path: Path
) -> None:
    """W17: its scratch folder is removed, and its result told."""
    code = "import os; [(os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"
    assert await run_worker(sys.executable, "-c", code) == 0
    assert server.results[0].exit_code == 0
    assert not list((tmp_path / "work").glob("scratch-*"))


async def test_what_comes_after_the_end_of_the_leader_is_read_to_the_end(server: Any, run_worker: Any) -> None:
    """A child that writes on has its say, too (L01)."""
    assert await run_worker("sh", "-c", "echo first; (sleep 0.3; echo last) &", HODEI_DRAIN_TIMEOUT="30") == 0
    assert server.data(OUT) == b"first\nlast\n"
    assert server.results[0].next_sequence == server.next_sequence


async def test_a_job_that_is_over_before_anybody_looks_has_all_of_its_output(server: Any, run_worker: Any) -> None:
    """The worker stands still while the job writes all it has to say and ends (L03)."""
    script = "kill -STOP $PPID; (sleep 0.5; kill -CONT $PPID) > /dev/null 2>&1 & exec head -c 900000 /dev/zero"
    assert await run_worker("sh", "-c", script) == 0
    assert server.data(OUT) == bytes(900_000)


async def test_stdin_is_closed_unless_given(server: Any, run_worker: Any) -> None:
    """`cat` ends (W39)."""
    assert await run_worker("cat") == 0
    assert server.results[0].exit_code == 0


async def test_stdin_is_fed_whole(server: Any, run_worker: Any) -> None:
    """More than a pipe holds."""
    assert await run_worker("cat", stdin=b"x" * 900_000) == 0
    assert server.data(OUT) == b"x" * 900_000


async def test_a_script_is_run_as_it_is_whatever_the_worker_s_locale(server: Any, run_worker: Any) -> None:
    """L13: where that has no character for something in it, too."""
    server.spec.script.text = "echo über →"
    assert await run_worker(LC_ALL="C", PYTHONUTF8="0") == 0
    assert server.data(OUT).decode() == "über →\n"


async def test_a_program_that_is_not_there_is_127(server: Any, run_worker: Any) -> None:
    """And the log says why."""
    assert await run_worker("/no/such/program") == 0
    assert (server.results[0].cause, server.results[0].exit_code) == (types_pb2.CAUSE_EXEC_FAILED, 127)
    assert b"not found" in server.data(log_pb2.LOG_STREAM_SYSTEM)


async def test_the_job_sees_none_of_the_worker_s_secrets(server: Any, run_worker: Any, tmp_path: Path) -> None:
    """Marks only; the token's file is gone (W24)."""
    assert await run_worker("env", DATABASE_PASSWORD="of the worker's own") == 0
    names = {line.split("=")[0] for line in server.data(OUT).decode().splitlines()}
    assert {name for name in names if name.startswith("HODEI_")} == {
        "HODEI_JOB_ID",
        "HODEI_ATTEMPT",
        "HODEI_ATTEMPT_UID",
        "HODEI_WORKER_ID",
    }
    assert "DATABASE_PASSWORD" not in names
    assert not (tmp_path / "otp").exists()


async def test_a_job_of_the_same_user_can_not_read_the_worker(server: Any, run_worker: Any) -> None:
    """The agent is not dumpable: its environment and its memory are closed to what it runs (W24)."""
    script = "cat /proc/$PPID/environ; head -c 1 /proc/$PPID/mem; readlink -v /proc/$PPID/exe"
    # Root may read everything, unless it lays that right down.
    plain = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    assert await run_worker("sh", "-c", script, through=plain) == 0
    assert server.data(OUT) == b""
    assert server.data(ERR).count(b"ermission denied") == 3


async def test_a_refused_worker_ends_itself(server: Any, run_worker: Any) -> None:
    """No endless register loop (W35)."""
    server.refuse_register = True
    assert await run_worker("true") == 3


async def test_a_log_that_is_not_acknowledged_waits_on_the_job_s_pipe(server: Any, run_worker: Any) -> None:
    """Memory, then the spool, then a full pipe, and nothing is lost (L14)."""
    server.ping_seconds, server.pings_before_acks = 0.2, 5
    code = "import sys; [sys.stdout.buffer.write(b'%07d\\n' % n) for n in range(1000000)]"
    limits = {"HODEI_LOG_MEMORY_BYTES": "262144", "HODEI_SPOOL_BYTES": "1048576"}
    assert await run_worker(sys.executable, "-c", code, **limits) == 0
    assert 0 <= server.bytes_before_acks < 4_000_000
    assert server.data(OUT) == b"".join(b"%07d\n" % n for n in range(1_000_000))
    assert server.results[0].log_checksum == server.checksum()


async def test_a_job_that_outruns_its_server_for_long_does_not_fill_the_disk(
    server: Any, run_worker: Any, tmp_path: Path
) -> None:
    """The spool keeps its bound, also where it is never empty, and the log goes on at the server's speed (L14)."""
    server.ping_seconds, server.spool, server.spool_before_acks = 0.02, tmp_path / "work" / "spool-a", 1 << 20
    limits = {"HODEI_LOG_MEMORY_BYTES": "262144", "HODEI_SPOOL_BYTES": "1048576"}
    assert await run_worker("seq", "2000000", **limits) == 0
    assert 1 << 20 <= server.largest_spool <= 2 << 20
    assert server.data(OUT) == b"".join(b"%d\n" % n for n in range(1, 2_000_001))
    assert server.results[0].log_checksum == server.checksum()


async def test_a_worker_whose_session_is_over_ends_though_nobody_takes_its_log(server: Any, run_worker: Any) -> None:
    """W35: what is left in the job's pipes waits for room that never comes, and the worker does not wait with it."""
    server.ping_seconds, server.pings_before_acks, server.pings_before_close = 0.2, 1 << 30, 5
    limits = {"HODEI_LOG_MEMORY_BYTES": "65536", "HODEI_SPOOL_BYTES": "65536"}
    assert await run_worker("sh", "-c", "head -c 4000000 /dev/zero; sleep 600", **limits) == 3


FAILING = """
import asyncio, os, sys
from hodei_worker.attempt import Attempt
from hodei_worker.main import main
async def fail(attempt):
    while not os.path.exists(os.environ["MARK"]):
        await asyncio.sleep(0.01)
    raise RuntimeError("nobody has thought of this")
Attempt._wait = fail
os.environ["MARK"] = sys.argv[1]
sys.exit(main([]))
"""


async def test_a_worker_that_has_failed_ends_and_its_job_with_it(server: Any, run_worker: Any, tmp_path: Path) -> None:
    """W18: else it would answer pings for ever, and its job would never end."""
    mark = tmp_path / "pid"
    script = 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 600'
    assert await run_worker("sh", "-c", script, str(mark), through=(sys.executable, "-c", FAILING, str(mark))) == 1
    async with asyncio.timeout(60):
        while Path("/proc", mark.read_text().strip()).exists():
            await asyncio.sleep(0.01)
    assert not server.results


async def test_a_worker_asked_to_end_finishes_its_job(server: Any, run_worker: Any, tmp_path: Path) -> None:
    """SIGTERM drains; the job is not touched (W26)."""
    go_on = tmp_path / "go on"

    async def let_go() -> None:
        await server.draining.wait()
        go_on.touch()

    waiting = asyncio.create_task(let_go())
    script = 'while [ ! -e "$0" ]; do sleep 0.02; done; echo finished'
    assert await run_worker("sh", "-c", script, str(go_on), terminate_at=server.started, HODEI_MAX_JOBS="0") == 0
    await waiting
    assert server.data(OUT) == b"finished\n"
    assert server.results[0].exit_code == 0


async def test_a_worker_whose_end_nobody_waits_for_asks_its_job_to_end(server: Any, run_worker: Any) -> None:
    """W26, W08: SIGTERM reaches the job at once; what it says then is in its log, whatever code it ends with."""
    script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    assert await run_worker("sh", "-c", script, terminate_at=server.heard, HODEI_TERM_GRACE="30") == 0
    assert server.draining.is_set()
    assert server.data(OUT).endswith(b"saved\n")
    assert (server.results[0].cause, server.results[0].exit_code) == (types_pb2.CAUSE_EVICTED, 0)


async def test_a_job_that_ignores_its_workers_end_is_killed_after_the_grace(server: Any, run_worker: Any) -> None:
    """W26: there is time left then to deliver the log."""
    script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    assert await run_worker("sh", "-c", script, terminate_at=server.heard, HODEI_TERM_GRACE="0.2") == 0
    assert server.data(OUT) == b"up\n"
    assert (server.results[0].cause, server.results[0].signal) == (types_pb2.CAUSE_EVICTED, 9)


async def test_a_cancel_that_leaves_more_time_than_the_job_has_ends_with_the_job_s_own(
    server: Any, run_worker: Any
) -> None:
    """W31: the run timeout goes on, and what follows it is the job's own grace; other bounds are derived from both."""
    # By then a busy machine, too, has started the job, heard it and asked it to end.
    server.spec.run_timeout.FromMilliseconds(10_000)
    server.spec.cancel_grace.FromMilliseconds(200)
    server.cancel_on_output = wire.CancelAttempt(attempt_uid="a", epoch=1)
    server.cancel_on_output.grace.FromSeconds(3600)
    assert await run_worker("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done") == 0
    assert (server.results[0].cause, server.results[0].signal) == (types_pb2.CAUSE_CANCELLED, 9)


async def test_orphans_of_a_job_are_reaped_while_it_runs(server: Any, run_worker: Any) -> None:
    """A grandchild whose parent has gone does not stay a zombie (W18)."""
    orphan = "orphan=$(sh -c 'sleep 0.2 > /dev/null & echo $!')"
    script = f"{orphan}; while [ -e /proc/$orphan ]; do sleep 0.02; done; echo reaped"
    assert await run_worker("sh", "-c", script) == 0
    assert server.data(OUT) == b"reaped\n"


@pytest.mark.parametrize("hours", [-30, 30])
async def test_chunks_carry_the_servers_time(server: Any, run_worker: Any, hours: int) -> None:
    """What the welcome says is added to every time that the worker tells (W25)."""
    server.clock_offset = hours * HOUR
    assert await run_worker("echo", "x") == 0
    told = [server.chunks[0].time_unix_nanos, server.results[0].time_unix_nanos]
    assert all(abs(each - time.time_ns() - hours * HOUR) < HOUR for each in told)


async def test_a_worker_logs_why_its_session_was_closed(server: Any, run_worker: Any, capfd: Any) -> None:
    """One line with the server's words, nothing of its tokens, and exit code 3 (W35)."""
    server.close_on_start = "chunk 9 stands where 1 belongs"
    assert await run_worker("sleep", "600") == 3
    written = capfd.readouterr().err
    assert written.count(server.close_on_start) == 1
    assert "one-time-token" not in written
    assert "session-token" not in written


async def test_a_worker_waits_for_as_long_as_the_server_asks(server: Any, run_worker: Any, capfd: Any) -> None:
    """RetryInfo of a refusal comes on top of the jitter, and the log says so (W22)."""
    status = status_of(UnavailableError("not now", retry_after=2.0), "")
    assert status is not None
    server.unavailable = [status[2]]
    assert await run_worker("true") == 0
    waits = re.findall(r"trying again in ([0-9.]+) s", capfd.readouterr().err)
    assert len(waits) == 1
    assert 2.0 <= float(waits[0]) <= 2.0 + bound(0)


async def test_a_worker_without_a_job_that_is_asked_to_end_does_not_wait_for_its_server(
    server: Any, run_worker: Any
) -> None:
    """W26: however long the server has asked it to wait."""
    status = status_of(UnavailableError("not now", retry_after=300.0), "")
    assert status is not None
    server.unavailable = [status[2]]
    assert await run_worker("true", terminate_at=server.refused) == 4
