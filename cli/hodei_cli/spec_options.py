"""The options that describe a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from hodei.v1 import types_pb2 as wire
from hodei_cli.job_file import read_job_file
from hodei_cli.secret_options import read_secrets, secret_options
from hodei_cli.strategies import STRATEGIES, set_strategy
from hodei_cli.values import CPU, DURATION, PAIR, SIZE
from hodei_client.specs import to_duration

F = TypeVar("F", bound=Callable[..., Any])

#: What a policy may name: the job's own causes. The infrastructure's have an option of their own.
CAUSES = ["exit_code", "signal", "out_of_memory", "exec_failed", "image", "run_timeout", "secret"]

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("-f", "--file", "job_file", type=click.Path(dir_okay=False), help="A job as YAML; options win."),
    click.option(
        "--script",
        type=click.Path(exists=True, dir_okay=False),
        help="A script in place of a command; its text goes along with the job.",
    ),
    click.option("--interpreter", metavar="COMMAND", help="What runs the script [by its line '#!', else /bin/sh]."),
    click.option("--image", metavar="IMAGE", help="A container image; on providers that run containers."),
    click.option(
        "-e",
        "--env",
        "environment",
        metavar="NAME[=VALUE]",
        multiple=True,
        help="A variable; repeatable. Without a value, the one of this name from here.",
    ),
    click.option(
        "--workdir",
        metavar="FOLDER",
        help="Where it runs, an absolute path there. Without it the image's, or an empty folder where there is none.",
    ),
    click.option(
        "--stdin", "stdin_file", type=click.Path(allow_dash=True), help="A file that the job reads; - is this one's."
    ),
    click.option("--name", metavar="NAME", help="For people; need not be unique."),
    click.option("--label", "labels", type=PAIR, multiple=True, help="For 'hodei list --label'; repeatable."),
    click.option("--annotation", "annotations", type=PAIR, multiple=True, help="Kept with the job; repeatable."),
    click.option("--tenant", metavar="NAME", help="For whom it runs [HODEI_TENANT, default]."),
    click.option(
        "--request-id",
        metavar="ID",
        default="",
        help="Names this submission: the same one again makes no second job.",
    ),
    click.option("--cpu", type=CPU, help="Processors: 2, 500m."),
    click.option("--memory", type=SIZE, help="Bytes: 512Mi, 2Gi."),
    click.option("--disk", type=SIZE, help="Bytes: 10Gi."),
    click.option("--gpus", type=int, metavar="COUNT", help="How many GPUs."),
    click.option("--gpu-type", metavar="TYPE", help="Of which type, as the provider calls it."),
    click.option("--priority", type=int, help="-1000 to 1000, higher first [0]."),
    click.option("--queue-timeout", type=DURATION, help="How long it may wait for a worker: 90s, 1h30m [without end]."),
    click.option("--start-timeout", type=DURATION, help="How long a start may take [HODEI_START_TIMEOUT, 5m]."),
    click.option("--timeout", "run_timeout", type=DURATION, help="How long one attempt may run [without end]."),
    click.option(
        "--grace", "cancel_grace", type=DURATION, help="Between SIGTERM and SIGKILL [HODEI_CANCEL_GRACE, 10s]."
    ),
    click.option("--max-attempts", type=int, metavar="COUNT", help="Attempts in all for the job's own failures [1]."),
    click.option("--backoff", type=DURATION, help="Before the second attempt; doubles [1s]."),
    click.option(
        "--retry-on",
        metavar="CAUSE",
        multiple=True,
        type=click.Choice(CAUSES),
        help="Only failures of this cause; repeatable [exit_code, signal, out_of_memory]. Others: exec_failed, image, "
        "run_timeout, secret.",
    ),
    click.option(
        "--retry-on-exit-code",
        metavar="CODE",
        multiple=True,
        type=int,
        help="Only failures with this exit code; repeatable. Causes beside it by --retry-on, exit_code among them.",
    ),
    click.option(
        "--infrastructure-retries",
        type=int,
        metavar="COUNT",
        help="Extra attempts where not the job but what it ran on failed [3].",
    ),
    click.option("--provider", "providers", metavar="NAME", multiple=True, help="Only on this one; repeatable."),
    click.option(
        "--strategy",
        metavar="NAME",
        help=f"How a provider is chosen: {', '.join(STRATEGIES)}, or one that is installed [HODEI_STRATEGY].",
    ),
    click.option(
        "--require-label", "required_labels", type=PAIR, multiple=True, help="A label that it has; repeatable."
    ),
    click.option(
        "--prefer-label",
        "preferred_labels",
        type=PAIR,
        multiple=True,
        help="A label that it had better have, by the strategy by-labels; repeatable.",
    ),
    click.option("--region", metavar="NAME", help="A region that it is in."),
    click.option("--architecture", metavar="NAME", help="Of its processors: amd64, arm64."),
    click.option("--log-budget", "log_budget_bytes", type=SIZE, help="Bytes that are kept [HODEI_LOG_BUDGET, 1Gi]."),
    click.option("--log-ttl", type=DURATION, help="How long it is kept after the end [HODEI_LOG_TTL, 7d]."),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
]
#: Which options stand together in the help, by the names of their parameters.
SECTIONS = {
    "What to run": (
        *("job_file", "script", "interpreter", "image", "environment", "secrets", "secret_files", "workdir"),
        "stdin_file",
    ),
    "Who it is": ("name", "labels", "annotations", "tenant", "request_id"),
    "What it needs": ("cpu", "memory", "disk", "gpus", "gpu_type"),
    "How long, and in which order": ("priority", "queue_timeout", "start_timeout", "run_timeout", "cancel_grace"),
    "When it fails": ("max_attempts", "backoff", "retry_on", "retry_on_exit_code", "infrastructure_retries"),
    "Which provider": (*("providers", "strategy", "required_labels", "preferred_labels", "region", "architecture"),),
    "Its log": ("log_budget_bytes", "log_ttl"),
}
_DURATIONS = ("queue_timeout", "start_timeout", "run_timeout", "cancel_grace", "log_ttl")
_MAPS = ("labels", "annotations", "required_labels", "preferred_labels")
_RESOURCES = {
    "cpu": "cpu_millis",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "gpus": "gpu_count",
    "gpu_type": "gpu_type",
}


class JobCommand(click.Command):
    """A command with the options that describe a job, told by sections; its own come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        section_of = {name: title for title, names in SECTIONS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *SECTIONS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                rows[section_of.get(parameter.name or "", "Options")].append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


def spec_options(function: F) -> F:
    """Give a command the options that describe a job."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return secret_options(function)


def build_spec(options: Mapping[str, Any]) -> wire.JobSpec:
    """Return the job that a command line, and maybe a file, describes."""
    spec = read_job_file(options["job_file"]) if options["job_file"] else wire.JobSpec()
    _what_to_run(spec, options)
    for name in ("name", "image", "priority", "region", "architecture", "tenant", "log_budget_bytes"):
        if options[name] is not None:
            setattr(spec, name, options[name])
    for name in _DURATIONS:
        if options[name] is not None:
            getattr(spec, name).CopyFrom(to_duration(options[name]))
    for name in _MAPS:
        getattr(spec, name).update(dict(options[name]))
    for option, field in _RESOURCES.items():
        if options[option] is not None:
            setattr(spec.resources, field, options[option])
    _secrets(spec, options)
    _retry(spec, options)
    if options["providers"]:
        spec.providers[:] = options["providers"]
    if options["strategy"]:
        set_strategy(spec, options["strategy"])
    return spec


def _what_to_run(spec: wire.JobSpec, options: Mapping[str, Any]) -> None:
    if options["command"] and options["script"]:
        raise click.UsageError("a command and --script exclude each other")
    if options["command"]:
        spec.ClearField("script")
        spec.argv[:] = options["command"]
    if options["script"]:
        spec.ClearField("argv")
        try:
            spec.script.text = Path(options["script"]).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise click.UsageError(f"--script {options['script']}: a script is text in UTF-8") from None
        if not spec.script.interpreter:
            spec.script.interpreter[:] = _interpreter_of(spec.script.text)
    if options["interpreter"]:
        spec.script.interpreter[:] = options["interpreter"].split()
    if not spec.argv and not spec.script.text:
        raise click.UsageError("say what to run: a command after --, --script FILE or -f job.yaml")
    if options["workdir"]:
        spec.working_directory = options["workdir"]
    for entry in options["environment"]:
        key, separator, value = entry.partition("=")
        if not separator and key not in os.environ:
            raise click.UsageError(f"--env {key}: there is no such variable here; write {key}=VALUE")
        spec.environment[key] = value if separator else os.environ[key]
    if options["stdin_file"]:
        file = options["stdin_file"]
        spec.stdin = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _interpreter_of(script: str) -> list[str]:
    """Return what a script's first line names, as Linux reads it: a program and at most one argument."""
    line = script.partition("\n")[0]
    return line[2:].strip().split(maxsplit=1) if line.startswith("#!") else []


def _secrets(spec: wire.JobSpec, options: Mapping[str, Any]) -> None:
    given = read_secrets(options)
    names = {secret.name for secret in given}
    kept = [secret for secret in spec.secrets if secret.name not in names]
    spec.ClearField("secrets")
    spec.secrets.extend([*kept, *given])


def _retry(spec: wire.JobSpec, options: Mapping[str, Any]) -> None:
    if options["max_attempts"] is not None:
        spec.retry.max_attempts = options["max_attempts"]
    if options["backoff"] is not None:
        spec.retry.initial_backoff.CopyFrom(to_duration(options["backoff"]))
    if options["infrastructure_retries"] is not None:
        spec.retry.max_infrastructure_retries = options["infrastructure_retries"]
    if options["retry_on"]:
        spec.retry.on_causes[:] = [wire.Cause.Value(f"CAUSE_{name.upper()}") for name in options["retry_on"]]
    if options["retry_on_exit_code"]:
        spec.retry.on_exit_codes[:] = options["retry_on_exit_code"]
