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

CAUSES = [name.removeprefix("CAUSE_").lower() for name in wire.Cause.keys()[1:]]


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("-f", "--file", "job_file", type=click.Path(dir_okay=False), help="A job as YAML; options win."),
    click.option("--name", help="For people; need not be unique."),
    click.option("--label", "labels", type=PAIR, multiple=True, help="For filters; may be given again."),
    click.option("--annotation", "annotations", type=PAIR, multiple=True, help="Kept with the job; again."),
    click.option("-e", "--env", "environment", multiple=True, help="NAME=VALUE, or NAME from here; again."),
    click.option("--workdir", help="Absolute; without it the image's, or a scratch folder where there is none."),
    click.option(
        "--stdin", "stdin_file", type=click.Path(allow_dash=True), help="A file the job reads; - is this one."
    ),
    click.option(
        "--script", type=click.Path(exists=True, dir_okay=False), help="A script to run in place of a command."
    ),
    click.option("--interpreter", help="What runs the script [/bin/sh]."),
    click.option("--image", help="A container image."),
    click.option("--cpu", type=CPU, help="Processors: 2, 500m."),
    click.option("--memory", type=SIZE, help="Bytes: 512Mi, 2Gi."),
    click.option("--disk", type=SIZE, help="Bytes."),
    click.option("--gpus", type=int, help="How many GPUs."),
    click.option("--gpu-type", help="Which."),
    click.option("--priority", type=int, help="-1000 to 1000, higher first."),
    click.option("--queue-timeout", type=DURATION, help="How long the job may wait: 90s, 1h30m."),
    click.option("--start-timeout", type=DURATION, help="How long a start may take."),
    click.option("--timeout", "run_timeout", type=DURATION, help="How long one attempt may run."),
    click.option("--grace", "cancel_grace", type=DURATION, help="Between SIGTERM and SIGKILL."),
    click.option("--max-attempts", type=int, help="Attempts in all for the job's own failures."),
    click.option("--backoff", type=DURATION, help="Before the second attempt; doubles."),
    click.option("--retry-on", multiple=True, type=click.Choice(CAUSES), help="Causes to retry on; again."),
    click.option("--retry-on-exit-code", multiple=True, type=int, help="Exit codes to retry on; again."),
    click.option("--infrastructure-retries", type=int, help="Extra attempts where the infrastructure failed."),
    click.option("--provider", "providers", multiple=True, help="Only on this one; again."),
    click.option("--strategy", help=f"How a provider is chosen: {', '.join(STRATEGIES)}, or one that is installed."),
    click.option("--require-label", "required_labels", type=PAIR, multiple=True, help="Of the provider; again."),
    click.option("--prefer-label", "preferred_labels", type=PAIR, multiple=True, help="Of the provider; again."),
    click.option("--region", help="Where."),
    click.option("--architecture", help="Of the processor: amd64, arm64."),
    click.option("--log-budget", "log_budget_bytes", type=SIZE, help="Bytes of log that are kept."),
    click.option("--log-ttl", type=DURATION, help="How long the log is kept after the end: 7d."),
    click.option("--tenant", help="For whom."),
    click.option("--request-id", default="", help="Names this submission: the same one again makes no second job."),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
]
_DURATIONS = ("queue_timeout", "start_timeout", "run_timeout", "cancel_grace", "log_ttl")
_MAPS = ("labels", "annotations", "required_labels", "preferred_labels")
_RESOURCES = {
    "cpu": "cpu_millis",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "gpus": "gpu_count",
    "gpu_type": "gpu_type",
}


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
