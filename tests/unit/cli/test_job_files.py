"""From options and files to a job, and from an outcome to an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hodei.v1 import types_pb2 as wire
from hodei_cli.display import exit_code_of
from hodei_cli.job_file import read_job_file
from hodei_cli.jobs import read_state
from hodei_cli.spec_options import CAUSES, SECTIONS, JobCommand, build_spec, spec_options
from hodei_server.domain.spec import check_spec


def build(*arguments: str) -> wire.JobSpec:
    """Return the job of a command line."""
    found: list[wire.JobSpec] = []

    @click.command(context_settings={"allow_interspersed_args": False})
    @spec_options
    def command(**options: Any) -> None:
        found.append(build_spec(options))

    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return found[0]


def test_every_option_of_a_job_is_told_in_a_section() -> None:
    """None is left among those of the command itself."""

    @click.command(cls=JobCommand)
    @spec_options
    def command(**_options: Any) -> None:
        raise AssertionError

    told = {name for names in SECTIONS.values() for name in names}
    assert {each.name for each in command.params if isinstance(each, click.Option)} == told
    shown = CliRunner().invoke(command, ["--help"]).output
    assert [title for title in SECTIONS if f"\n{title}:\n" not in shown] == []


def test_every_option_reaches_its_field() -> None:
    """W38: nothing that is accepted is dropped."""
    spec = build(
        *["--name", "n", "--label", "a=1", "--label", "b=x=y", "--annotation", "c=", "-e", "K=v w", "--workdir", "/w"],
        *["--image", "i", "--cpu", "500m", "--memory", "2Gi", "--disk", "1G", "--gpus", "2", "--gpu-type", "t"],
        *["--priority", "-5", "--queue-timeout", "1h", "--start-timeout", "5m", "--timeout", "90s", "--grace", "250ms"],
        *["--max-attempts", "3", "--retry-on-exit-code", "7", "--retry-on", "signal", "--backoff", "2s"],
        *["--infrastructure-retries", "4", "--provider", "p", "--provider", "q", "--strategy", "lowest_cost"],
        *[
            "--require-label",
            "r=1",
            "--prefer-label",
            "s=2",
            "--region",
            "eu",
            "--log-budget",
            "1Gi",
            "--log-ttl",
            "7d",
        ],
        *["--tenant", "team", "--", "sh", "-c", "echo $HOME"],
    )
    expected = wire.JobSpec(
        name="n",
        labels={"a": "1", "b": "x=y"},
        annotations={"c": ""},
        environment={"K": "v w"},
        working_directory="/w",
        image="i",
        resources=wire.Resources(cpu_millis=500, memory_bytes=2 << 30, disk_bytes=10**9, gpu_count=2, gpu_type="t"),
        priority=-5,
        providers=["p", "q"],
        strategy=wire.STRATEGY_LOWEST_COST,
        required_labels={"r": "1"},
        preferred_labels={"s": "2"},
        region="eu",
        log_budget_bytes=1 << 30,
        tenant="team",
        argv=["sh", "-c", "echo $HOME"],
    )
    retry = expected.retry
    retry.max_attempts, retry.max_infrastructure_retries = 3, 4
    retry.on_exit_codes.append(7)
    retry.on_causes.append(wire.CAUSE_SIGNAL)
    retry.initial_backoff.FromSeconds(2)
    for name, milliseconds in {
        "queue_timeout": 3_600_000,
        "start_timeout": 300_000,
        "run_timeout": 90_000,
        "cancel_grace": 250,
        "log_ttl": 604_800_000,
    }.items():
        getattr(expected, name).FromMilliseconds(milliseconds)
    assert spec == expected


def test_a_variable_without_a_value_is_taken_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that isn't here is told."""
    monkeypatch.setenv("HERE", "now")
    assert dict(build("-e", "HERE", "--", "true").environment) == {"HERE": "now"}
    with pytest.raises(click.UsageError, match="--env GONE_AWAY"):
        build("-e", "GONE_AWAY", "--", "true")


@pytest.mark.parametrize(
    ("text", "arguments", "interpreter"),
    [
        ("#!/usr/bin/env python3\nprint()\n", [], ["/usr/bin/env", "python3"]),
        ("#! /usr/bin/env -S python3 -u\n", [], ["/usr/bin/env", "-S python3 -u"]),
        ("#!/bin/sh -e\n", ["--interpreter", "bash -x"], ["bash", "-x"]),
        ("echo '#!/bin/false'\n", [], []),
        ("#!\n", [], []),
    ],
)
def test_a_script_says_by_its_first_line_what_runs_it(
    tmp_path: Path, text: str, arguments: list[str], interpreter: list[str]
) -> None:
    """As where it is executed; a script in Python was handed to a shell."""
    (tmp_path / "script").write_text(text)
    spec = build("--script", str(tmp_path / "script"), *arguments)
    assert (list(spec.script.interpreter), spec.script.text) == (interpreter, text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to run"),
        (["--label", "a", "--", "true"], "KEY=VALUE"),
        (["--timeout", "soon", "--", "true"], "--timeout"),
        (["--memory", "much", "--", "true"], "--memory"),
        (["--retry-on", "sgnal", "--", "true"], "signal"),
        (["--retry-on", "evicted", "--", "true"], "'evicted' is not one of 'exit_code'"),
        (["--script", "{script}", "--", "true"], "exclude each other"),
        (["--script", "{binary}"], "UTF-8"),
    ],
)
def test_mistakes_name_their_option(tmp_path: Path, arguments: list[str], words: str) -> None:
    """What to do stands in the message."""
    (tmp_path / "script").write_text("true\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    given = [each.format(script=tmp_path / "script", binary=tmp_path / "binary") for each in arguments]
    with pytest.raises(click.UsageError) as caught:
        build(*given)
    assert words in caught.value.format_message()


def test_the_causes_of_retry_on_are_those_that_the_server_takes() -> None:
    """W38: one that is added there is added here."""
    for cause in wire.Cause.values():
        name = wire.Cause.Name(cause).removeprefix("CAUSE_").lower()
        spec = wire.JobSpec(argv=["true"], retry=wire.RetryPolicy(on_causes=[cause]))
        assert (name in CAUSES) == (not check_spec(spec)), name


def write(folder: Path, text: str) -> str:
    """Write a job file."""
    path = folder / "job.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_holds_a_whole_job(tmp_path: Path) -> None:
    """With quantities as people write them, numbers and truths as arguments, and bytes."""
    spec = read_job_file(
        write(
            tmp_path,
            "argv: [echo, true, 5, 1.5]\nenv: {A: 1, B: yes, C: }\nrun_timeout: 90\nstdin: !!binary AP8=\n"
            "resources: {cpu: 1.5, memory: 2Gi}\n"
            "retry: {on_causes: [signal], on_exit_codes: [3], initial_backoff: 1s}\n"
            "strategy: labels\nlog_ttl: 7d\n",
        )
    )
    assert list(spec.argv) == ["echo", "true", "5", "1.5"]
    assert dict(spec.environment) == {"A": "1", "B": "true", "C": ""}
    assert (spec.run_timeout.seconds, spec.log_ttl.seconds, spec.stdin) == (90, 604800, b"\x00\xff")
    assert (spec.resources.cpu_millis, spec.resources.memory_bytes) == (1500, 2 << 30)
    assert list(spec.retry.on_causes) == [wire.CAUSE_SIGNAL]
    assert list(spec.retry.on_exit_codes) == [3]
    assert spec.strategy == wire.STRATEGY_LABELS


@pytest.mark.parametrize("written", ["by-labels", "by_labels", "labels"])
def test_a_strategy_is_named_as_people_write_it(tmp_path: Path, written: str) -> None:
    """And one that only the server knows goes there by its name."""
    assert read_job_file(write(tmp_path, f"argv: [a]\nstrategy: {written}\n")).strategy == wire.STRATEGY_LABELS
    spec = build("--strategy", "healthiest", "--architecture", "arm64", "--", "true")
    assert (spec.strategy, spec.architecture) == (wire.STRATEGY_HEALTHIEST, "arm64")
    assert build("--strategy", "near_me", "--", "true").custom_strategy == "near_me"


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    """A command takes the place of the file's script."""
    path = write(tmp_path, "name: a\npriority: 1\nscript: {text: 'true'}\n")
    spec = build("-f", path, "--name", "b", "--", "echo")
    assert (spec.name, spec.priority, list(spec.argv)) == ("b", 1, ["echo"])
    assert not spec.HasField("script")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("argv: python train.py\n", "argv: is a list, such as"),
        ("providers: process\n", "providers: is a list"),
        ("labels: [a]\n", "labels: is a mapping"),
        ("resources: 5\n", "resources: is a mapping"),
        ("name: [a]\n", "name: is one value"),
        ("priority: high\n", "priority: is a whole number, not 'high'"),
        ("run_timeuot: 1h\n", "did you mean run_timeout?"),
        ("resources: {memry_bytes: 1}\n", "no field resources.memry_bytes; did you mean memory_bytes?"),
        ("run_timeout: soon\n", "run_timeout: 'soon' is not a duration"),
        ("retry: {on_causes: [sgnal]}\n", "'sgnal' is none of"),
        ("strategy: [fast]\n", "strategy: is one value"),
        ("- a\n", "a job is a mapping"),
        ("a: [\n", "is no YAML"),
        ("stdin: [1]\n", "stdin: is one value"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    """The file, the field, and what would be right."""
    path = write(tmp_path, text)
    with pytest.raises(click.UsageError) as caught:
        read_job_file(path)
    message = caught.value.format_message()
    assert words in message
    assert path in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (wire.Outcome(state=wire.JOB_STATE_SUCCEEDED, exit_code=0), 0),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_EXIT_CODE, exit_code=42), 42),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_EXEC_FAILED, exit_code=127), 127),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_SIGNAL, signal=11), 139),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_OUT_OF_MEMORY, signal=9), 137),
        (wire.Outcome(state=wire.JOB_STATE_TIMED_OUT, cause=wire.CAUSE_RUN_TIMEOUT, signal=15), 124),
        (wire.Outcome(state=wire.JOB_STATE_CANCELLED, cause=wire.CAUSE_CANCELLED, signal=15), 130),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_WORKER_LOST), 125),
        (wire.Outcome(state=wire.JOB_STATE_FAILED, cause=wire.CAUSE_PROVIDER_ERROR, exit_code=0), 125),
        (wire.Outcome(), 125),
    ],
)
def test_each_outcome_has_its_code(outcome: wire.Outcome, code: int) -> None:
    """W06, W07, W30: a failure is never 0."""
    assert exit_code_of(outcome) == code


def test_a_state_with_a_typo_gets_the_right_one() -> None:
    """However it is written."""
    assert read_state("RUNNING") == wire.JOB_STATE_RUNNING
    with pytest.raises(click.UsageError, match="did you mean running"):
        read_state("runing")
