"""Where the processor time goes: stacks are charged to parts of the code, threads to processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hodei_bench import command
from hodei_bench.parts import Sampled, part_of, sampled
from hodei_bench.profile import CORE, CannotProfileError, Profile, Profiler, parts_of
from hodei_bench.profile_page import profile_page, write_profiles
from hodei_bench.running import RunningServer

DOCS = Path(__file__).parents[2] / "docs" / "performance"


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        ("run (asyncio/runners.py:1);Reports.result (hodei_server/work/reports.py:9)", "server: attempts, sessions,"),
        ("move (hodei_server/db/events.py:5);Connection.execute (sqlalchemy/engine/base.py:4)", "SQLAlchemy"),
        ("Connection.execute (sqlalchemy/engine/base.py:4);X.do_execute (sqlalchemy/engine/default.py:1)", "SQLite"),
        ("Outbox.add (hodei_worker/outbox.py:1);chunk_checksum (hodei/checksum.py:17)", "checksums"),
        ("Popen.__init__ (subprocess.py:1);sub (re.py:3)", "the rest"),
        ("JobProcess.__init__ (hodei_worker/process.py:95);Popen.__init__ (subprocess.py:8)", "worker: the job's"),
        ("Handle._run (asyncio/events.py:78)", "gRPC"),
        ("Handle._run (asyncio/events.py:78);Event.set (asyncio/locks.py:1)", "event loop"),
    ],
)
def test_a_moment_belongs_to_the_innermost_part_that_is_known(stack: str, part: str) -> None:
    """The interpreter's own modules belong to whoever called them."""
    assert (part_of(stack.split(";")) or "").startswith(part)


def test_moments_in_which_a_thread_waits_are_left_out() -> None:
    """They cost no processor time, and a thread that only waits has no part."""
    stacks = "thread (7): MainThread;f (a.py:1);EpollSelector.select (selectors.py:451) 90\nthread (7): MainThread 1\n"
    assert sampled(stacks) == {7: Sampled("MainThread")}


def test_what_threads_used_is_divided_and_nothing_of_it_lost() -> None:
    """User time goes by samples, system time by what the thread is for; threads without Python are gRPC's."""
    seen = sampled(
        "thread (1): MainThread;f (hodei_server/rpc/x.py:1) 3\n"
        "thread (1): MainThread;g (hodei_server/logs/x.py:1) 1\n"
        "thread (2): database-writer;Database._run (hodei_server/db/database.py:1) 5\n"
    )
    parts = parts_of({1: (4.0, 1.0), 2: (0.5, 0.25), 3: (0.125, 0.125)}, seen)
    assert dict(parts) == {
        "server: services": 3.0,
        "server: logs": 1.0,
        "system: the rest": 1.0,
        "the rest": 0.5,
        "system: the database's files": 0.25,
        CORE: 0.25,
    }
    assert sum(parts.values()) == 6.0


def test_profiles_of_other_benches_stay_on_the_page(tmp_path: Path) -> None:
    """A run of some benches writes theirs anew."""
    about = {"date": "2026-11-25T01:02:03", "machine": {"cpu_model": "One"}}
    one = Profile("one", "job", 10, 2.0, {"server": {"a": 3.0, "b": 0.001}, "client": {"c": 1.0}}, 5.0, "power")
    two = Profile("two", "job", 10, 2.0, {"server": {"a": 3.0}}, 5.0, "power")
    write_profiles(tmp_path, about, [one])
    write_profiles(tmp_path, about, [two])
    page = (tmp_path / "profile.md").read_text()
    assert page.index("## one") < page.index("## two")
    assert "| **server** | | **3 ms** | **75%** |" in page
    assert "| server | smaller ones | 0.001 ms | 0% |" in page


def test_the_published_page_is_made_of_the_published_profiles() -> None:
    """Nobody writes figures by hand: python -m hodei_bench --profile docs/performance."""
    assert profile_page(json.loads((DOCS / "profile.json").read_text())) == (DOCS / "profile.md").read_text()


async def test_a_process_that_can_not_be_looked_into_is_told(tmp_path: Path) -> None:
    """In the profiler's own words."""
    gone = RunningServer("127.0.0.1:1", 4_000_000, tmp_path, {}, 0.0)
    with pytest.raises(CannotProfileError, match="process"):
        async with Profiler(tmp_path).recording("x", gone, "job", 1):
            pass


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="to look into processes wants a right")
def test_a_bench_is_profiled_while_it_runs(tmp_path: Path) -> None:
    """The whole way: every process has parts, and their sum is what the kernel says."""
    assert command.main(["--short", "--only", "jobs", "--profile", str(tmp_path)]) == 0
    (profile,) = json.loads((tmp_path / "profile.json").read_text())["profiles"]
    assert profile["name"] == "jobs"
    assert {"SQLAlchemy", CORE} <= set(profile["processes"]["server"])
    assert "the jobs' own processes" in profile["processes"]["workers"]
