"""`hodei run` and its relatives, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_streams_and_code_are_the_jobs_own(cli: Any) -> None:
    """W30: stdout on stdout, stderr on stderr, and the exit code of the job."""
    done = cli.run("run", "-q", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=3)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_binary_output_arrives_byte_for_byte(cli: Any) -> None:
    """L12: all 256 values, from a run and again from history."""
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)"
    expected = bytes(range(256)) * 1000
    done = cli.run("run", "--", sys.executable, "-c", program, check=0)
    assert done.stdout == expected
    job = done.stderr.split()[2].decode()
    assert cli.run("logs", job, check=0).stdout == expected


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -TERM $$"], 128 + 15),
        (["/no/such/program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_codes_are_those_of_a_shell(cli: Any, command: list[str], code: int) -> None:
    """W07, W30: what happened can be told from the code."""
    cli.run("run", "--", *command, check=code)


def test_a_timeout_is_124(cli: Any) -> None:
    """W40: also one of a fraction of a second."""
    done = cli.run("run", "--timeout", "300ms", "--", "sleep", "600", check=124)
    assert b"timed_out" in done.stderr


def test_submit_prints_the_id_alone(cli: Any) -> None:
    """What a script reads is nothing else."""
    done = cli.run("submit", "--", "echo", "hi", check=0)
    job = done.stdout.decode().strip()
    assert done.stderr == b""
    assert done.stdout == f"{job}\n".encode()
    assert cli.run("logs", "-f", job, check=0).stdout == b"hi\n"
    assert cli.run("wait", job, check=0).stdout == b""


def test_a_log_is_followed_while_it_is_written(cli: Any) -> None:
    """L02: from the first line on, and it ends with the job."""
    script = "echo first; echo ready > ready; while [ ! -e go ]; do sleep 0.05; done; echo last"
    job = cli.run("submit", "--workdir", str(cli.folder), "--", "sh", "-c", script, check=0).stdout.decode().strip()
    cli.wait_for("ready")
    following = cli.start("logs", "-f", job)
    assert following.stdout.readline() == b"first\n"
    (cli.folder / "go").write_text("now")
    assert following.stdout.read() == b"last\n"
    assert following.wait(PATIENCE) == 0
    following.communicate()
    assert cli.run("logs", "--tail", "1", job, check=0).stdout == b"last\n"


def test_a_cancel_of_several_stops_those_that_it_can(cli: Any) -> None:
    """W31: what is wrong with one is told, and leaves none of the others running."""
    jobs = [cli.run("submit", "--", "sleep", "600", check=0).stdout.decode().strip() for _ in range(2)]
    done = cli.run("cancel", jobs[0], "jnothing", jobs[1], "jneither")
    assert done.returncode == 125
    told = done.stderr.decode().splitlines()
    assert [line.split()[1].rstrip(":") for line in told] == [jobs[0], "jnothing", jobs[1], "jneither"]
    assert "there is no job jnothing" in told[1]
    for job in jobs:
        assert cli.run("wait", job, "--timeout", "60s", check=130).stderr.endswith(b"cancelled: Cancelled\n")


def test_a_cancel_reaches_the_process(cli: Any) -> None:
    """W31: when the command says so, the process is gone."""
    script = "echo $$ > pid; exec sleep 600"
    job = cli.run("submit", "--workdir", str(cli.folder), "--", "sh", "-c", script, check=0).stdout.decode().strip()
    pid = int(cli.wait_for("pid"))
    cli.run("cancel", "--wait", job, check=0)
    assert not alive(pid)
    assert cli.run("wait", job).returncode == 130
    assert cli.run("cancel", job, check=0).stderr == f"hodei: {job} cancelled: Cancelled\n".encode()


def test_a_cancel_that_waits_has_cancelled_all_before(cli: Any) -> None:
    """W31: one that takes its time to end leaves none of the others running meanwhile."""
    submit = ("submit", "--workdir", str(cli.folder), "--grace", "1h", "--", "sh", "-c")
    stubborn = cli.run(*submit, "trap '' TERM; echo yes > stubborn; exec sleep 600", check=0).stdout.decode().strip()
    cli.wait_for("stubborn")
    other = cli.run(*submit, "exec sleep 600", check=0).stdout.decode().strip()
    cancelling = cli.start("cancel", "--wait", stubborn, "jnothing", other)
    cli.run("wait", other, check=130)
    assert cancelling.poll() is None
    cli.run("cancel", "--force", stubborn, check=0)
    _, told = cancelling.communicate(timeout=PATIENCE)
    assert cancelling.returncode == 125
    wrong, *ends = told.decode().splitlines()
    assert wrong.startswith("hodei: jnothing: there is no job jnothing")
    assert ends == [f"hodei: {job} cancelled: Cancelled" for job in (stubborn, other)]


def test_retries_go_on_in_one_follow(cli: Any) -> None:
    """The next attempt's output follows the first one's; the last code counts."""
    done = cli.run("run", "--max-attempts", "3", "--backoff", "1ms", "--", "sh", "-c", "echo $HODEI_ATTEMPT; exit 9")
    assert (done.returncode, done.stdout) == (9, b"1\n2\n3\n")


def test_an_ended_job_is_retried_as_a_new_one(cli: Any) -> None:
    """And says which one it repeats."""
    job = cli.run("submit", "--", "sh", "-c", "exit 4", check=0).stdout.decode().strip()
    cli.run("wait", job, check=4)
    again = cli.run("retry", job, check=0).stdout.decode().strip()
    assert again != job
    assert json.loads(cli.run("get", again, "-o", "json", check=0).stdout)["retry_of"] == job
    cli.run("wait", again, check=4)


def test_stdin_is_closed_unless_given(cli: Any) -> None:
    """W39: `cat` doesn't hang."""
    assert cli.run("run", "-q", "--", "cat", check=0).stdout == b""
    assert cli.run("run", "-q", "--stdin", "-", "--", "cat", stdin=b"given\0", check=0).stdout == b"given\0"


def test_a_script_and_its_environment(cli: Any) -> None:
    """W41: the text is run as a file, by the interpreter that was named."""
    (cli.folder / "job.py").write_text("import os\nprint(os.environ['A'], os.environ['HODEI_ATTEMPT'])\n")
    done = cli.run("run", "-q", "--script", "job.py", "--interpreter", sys.executable, "-e", "A=b c", check=0)
    assert done.stdout == b"b c 1\n"


def test_a_job_may_come_from_a_file(cli: Any) -> None:
    """With quantities as people write them; an option wins; what is not known is named."""
    file = cli.folder / "job.yaml"
    file.write_text(
        "name: from-file\nargv: [echo, hi]\nrun_timeout: 1h30m\nlog_budget_bytes: 64Mi\nlabels: {team: a}\n"
    )
    job = cli.run("submit", "-f", "job.yaml", "--name", "other", check=0).stdout.decode().strip()
    spec = json.loads(cli.run("get", job, "-o", "json", check=0).stdout)["spec"]
    assert (spec["name"], spec["run_timeout"], spec["log_budget_bytes"]) == ("other", "5400s", str(64 << 20))
    file.write_text("argv: [true]\nrun_timeuot: 1h\n")
    done = cli.run("submit", "-f", "job.yaml", check=2)
    assert b"did you mean run_timeout?" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_data_can_be_read_by_programs(cli: Any) -> None:
    """Every list and thing as JSON on stdout."""
    job = cli.run("submit", "--name", "n", "--label", "a=b", "--", "true", check=0).stdout.decode().strip()
    cli.run("wait", job, check=0)
    listed = json.loads(cli.run("list", "--label", "a=b", "--state", "succeeded", "-o", "json", check=0).stdout)
    assert [each["job_id"] for each in listed] == [job]
    assert json.loads(cli.run("providers", "-o", "json", check=0).stdout)[0]["name"] == "process"
    assert isinstance(json.loads(cli.run("workers", "--all", "-o", "json", check=0).stdout), list)
    assert json.loads(cli.run("logs", job, "--receipt", check=0).stdout)["complete"]
    moves = [json.loads(line)["event"] for line in cli.run("watch", job, "-o", "json", check=0).stdout.splitlines()]
    assert [move["state"] for move in moves][-1] == "JOB_STATE_SUCCEEDED"
    for command in (["list"], ["get", job], ["watch", job], ["explain", job], ["providers"], ["workers"]):
        assert cli.run(*command, check=0).stdout


def test_an_explanation_can_be_read_by_programs(cli: Any) -> None:
    """W02: the winner, and of each provider the verdict, the score and what that was made of."""
    spec = ("--strategy", "fastest-startup", "--timeout", "1m")
    job = cli.run("submit", *spec, "--", "true", check=0).stdout.decode().strip()
    cli.run("wait", job, check=0)
    told = json.loads(cli.run("explain", job, "-o", "json", check=0).stdout)
    assert told["state"] == "JOB_STATE_SUCCEEDED"
    (decision,) = told["decisions"]
    named = {"job_id": job, "attempt_number": 1, "provider": "process", "strategy": "fastest-startup"}
    assert named.items() <= decision.items()
    (verdict,) = decision["candidates"]
    inputs = verdict.pop("inputs")
    assert verdict == {"provider": "process", "eligible": True, "room": True, "score": -0.3, "reason": "it has room"}
    assert inputs["start_seconds"] == 0.3
    assert int(inputs["fits"]) >= 8
    assert 0.9 < inputs["health"] <= 1
    # What it would be now: a start was measured since.
    (now,) = told["providers"]
    assert now["inputs"]["start_samples"] == 1
    assert now["score"] == -now["inputs"]["start_seconds"] != verdict["score"]


def test_a_provider_is_shown_in_words_of_people(offline: Any) -> None:
    """Its labels and regions as they are set, not as a program's values."""
    offline.environment |= {"HODEI_PROVIDER_PROCESS_LABELS": "a=b,c=d", "HODEI_PROVIDER_PROCESS_REGIONS": "eu,us"}
    offline.start_server()
    shown = dict(
        line.split(":", 1) for line in offline.run("providers", "get", "process", check=0).stdout.decode().splitlines()
    )
    assert (shown["labels"].strip(), shown["regions"].strip()) == ("a=b, c=d", "eu, us")
    assert not [name for name, value in shown.items() if "{" in value or "[" in value]


def test_a_disabled_provider_takes_nothing_and_explain_says_so(cli: Any) -> None:
    """W36: the job waits; enabled again, it runs."""
    cli.run("providers", "disable", "process", check=0)
    job = cli.run("submit", "--", "true", check=0).stdout.decode().strip()
    assert b"is disabled" in cli.run("explain", job, check=0).stdout
    cli.run("providers", "enable", "process", check=0)
    cli.run("wait", job, check=0)


def test_a_request_id_makes_one_job(cli: Any) -> None:
    """The same submission again is the same job."""
    first = cli.run("submit", "--request-id", "x", "--", "true", check=0).stdout
    assert cli.run("submit", "--request-id", "x", "--", "true", check=0).stdout == first
    assert cli.run("submit", "--request-id", "x", "--", "false").returncode == 125


def test_what_no_provider_can_do_is_refused_by_name(cli: Any) -> None:
    """W38: nothing is accepted and then ignored."""
    done = cli.run("submit", "--image", "debian", "--", "true", check=125)
    assert b"image" in done.stderr
    done = cli.run("submit", "--memory", "1Gi", "--", "true", check=125)
    assert b"resources.memory_bytes" in done.stderr


def test_an_interrupt_detaches_and_a_second_one_cancels(cli: Any) -> None:
    """Ctrl-C leaves the job running and says how to go on; twice, it ends it."""
    for interrupts in (1, 2):
        script = f"echo $$ > pid{interrupts}; exec sleep 600"
        run = cli.start("run", "--workdir", str(cli.folder), "--", "sh", "-c", script, patient=interrupts == 2)
        pid = int(cli.wait_for(f"pid{interrupts}"))
        os.kill(run.pid, signal.SIGINT)
        lines = [run.stderr.readline(), run.stderr.readline()]
        assert b"hodei logs -f" in lines[1]
        assert b"hodei cancel" in lines[1]
        if interrupts == 2:
            os.kill(run.pid, signal.SIGINT)
        assert run.wait(PATIENCE) == 130
        assert alive(pid) == (interrupts == 1)
        run.communicate()


def test_a_run_without_a_server_brings_its_own(offline: Any) -> None:
    """And the first interrupt cancels there, as no server is left."""
    done = offline.run("run", "--local", "-q", "--", "sh", "-c", "echo alone; exit 6", check=6)
    assert (done.stdout, done.stderr) == (b"alone\n", b"")
    script = "echo $$ > pid; exec sleep 600"
    run = offline.start("run", "--local", "--workdir", str(offline.folder), "--", "sh", "-c", script)
    pid = int(offline.wait_for("pid"))
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(PATIENCE) == 130
    assert not alive(pid)
    run.communicate()
