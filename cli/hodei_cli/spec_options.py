"""The options that describe a job, and the file it may come from."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from google.protobuf.duration_pb2 import Duration

from hodei.quantities import parse_cpu, parse_duration, parse_size
from hodei.v1 import types_pb2 as wire
from hodei_cli.secret_options import read_secrets, secret_options, secrets_of_file

F = TypeVar("F", bound=Callable[..., Any])

#: Strategies as people write them; the server may have more.
STRATEGIES = {
    "lowest-cost": wire.STRATEGY_LOWEST_COST,
    "fastest-startup": wire.STRATEGY_FASTEST_STARTUP,
    "most-capacity": wire.STRATEGY_MOST_CAPACITY,
    "healthiest": wire.STRATEGY_HEALTHIEST,
    "by-labels": wire.STRATEGY_LABELS,
}
CAUSES = [name.removeprefix("CAUSE_").lower() for name in wire.Cause.keys()[1:]]


class Quantity(click.ParamType[Any]):
    """An option that is read by one of `hodei.quantities`."""

    def __init__(self, name: str, reader: Callable[[str], Any]) -> None:
        self.name = name
        self._reader = reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a value."""
        if not isinstance(value, str):
            return value
        try:
            return self._reader(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Quantity("duration", parse_duration)
SIZE = Quantity("size", parse_size)
CPU = Quantity("cpu", parse_cpu)


class Pair(click.ParamType[tuple[str, str]]):
    """An option of the form KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, separator, rest = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is not of the form KEY=VALUE", param, ctx)
        return key, rest


PAIR = Pair()

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


def duration(seconds: float) -> Duration:
    """Return a duration, exact to the nanosecond."""
    result = Duration()
    result.FromNanoseconds(round(seconds * 1_000_000_000))
    return result


def build_spec(options: Mapping[str, Any]) -> wire.JobSpec:
    """Return the job that a command line, and maybe a file, describes."""
    spec = read_job_file(options["job_file"]) if options["job_file"] else wire.JobSpec()
    _what_to_run(spec, options)
    for name in ("name", "image", "priority", "region", "architecture", "tenant", "log_budget_bytes"):
        if options[name] is not None:
            setattr(spec, name, options[name])
    for name in _DURATIONS:
        if options[name] is not None:
            getattr(spec, name).CopyFrom(duration(options[name]))
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


def set_strategy(spec: wire.JobSpec, name: str) -> None:
    """Name a job's strategy; the server says which others it has."""
    written = "by-labels" if name == "labels" else name.replace("_", "-")
    spec.ClearField("strategy")
    spec.ClearField("custom_strategy")
    if written in STRATEGIES:
        spec.strategy = STRATEGIES[written]
    else:
        spec.custom_strategy = name


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
        spec.retry.initial_backoff.CopyFrom(duration(options["backoff"]))
    if options["infrastructure_retries"] is not None:
        spec.retry.max_infrastructure_retries = options["infrastructure_retries"]
    if options["retry_on"]:
        spec.retry.on_causes[:] = [wire.Cause.Value(f"CAUSE_{name.upper()}") for name in options["retry_on"]]
    if options["retry_on_exit_code"]:
        spec.retry.on_exit_codes[:] = options["retry_on_exit_code"]


def read_job_file(path: str) -> wire.JobSpec:
    """Read a job from YAML: the fields of `JobSpec`, with durations and sizes as people write them."""
    import yaml  # noqa: PLC0415 - only for those who have a file

    try:
        with click.open_file(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except OSError as error:
        raise click.UsageError(f"{path} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise click.UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise click.UsageError(f"{path}: a job is a mapping, such as 'argv: [python, train.py]'")
    spec = wire.JobSpec()
    _fill(spec, document, path, "")
    return spec


_READERS: dict[str, Callable[[str], Any]] = {
    "cpu_millis": parse_cpu,
    "memory_bytes": parse_size,
    "disk_bytes": parse_size,
    "log_budget_bytes": parse_size,
}
_SHORT = {
    "cpu": "cpu_millis",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "gpus": "gpu_count",
    "env": "environment",
}


def _fill(message: Any, values: Mapping[str, Any], path: str, prefix: str) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for written, value in values.items():
        key = _SHORT.get(str(written), str(written))
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(fields))}"
            raise click.UsageError(f"{path}: there is no field {prefix}{written}{hint}")
        try:
            if key == "strategy":
                set_strategy(message, _scalar(fields["custom_strategy"], value))
                continue
            if key == "secrets":
                message.secrets.extend(secrets_of_file(value))
                continue
            _set(message, fields[key], value, path, f"{prefix}{written}.")
        except (TypeError, ValueError) as error:
            raise click.UsageError(f"{path}: {prefix}{written}: {error}") from None


def _set(message: Any, field: Any, value: Any, path: str, prefix: str) -> None:
    name, kind = field.name, field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise TypeError("is a mapping, such as {key: value}")
        getattr(message, name).update({str(key): _text(each) for key, each in value.items()})
    elif field.is_repeated:
        if not isinstance(value, list):
            raise TypeError("is a list, such as [python, train.py]")
        getattr(message, name).extend(_scalar(field, each) for each in value)
    elif kind is None:
        setattr(message, name, _scalar(field, value))
    elif kind.full_name == "google.protobuf.Duration":
        getattr(message, name).CopyFrom(duration(parse_duration(_text(value))))
    elif not isinstance(value, dict):
        raise TypeError("is a mapping, such as {key: value}")
    else:
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), value, path, prefix)


def _scalar(field: Any, value: Any) -> Any:
    """Return a value as a field that is no message takes it."""
    if isinstance(value, (dict, list)):
        raise TypeError("is one value")
    if field.enum_type is not None:
        named = {each.name: each.number for each in field.enum_type.values}
        return named[_known(f"CAUSE_{str(value).upper()}", named)]
    if field.name in _READERS:
        return _READERS[field.name](_text(value))
    if field.type == field.TYPE_STRING:
        return _text(value)
    if field.type == field.TYPE_BYTES:
        return value if isinstance(value, bytes) else _text(value).encode()
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"is a whole number, not {value!r}")
    return value


def _known(name: str, known: Sequence[str] | Mapping[str, int]) -> str:
    if name not in known:
        raise ValueError(
            f"{name.partition('_')[2].lower()!r} is none of {', '.join(k.partition('_')[2].lower() for k in known)}"
        )
    return name


def _text(value: Any) -> str:
    """Return what was written: YAML reads `true` and nothing at all as values of their own."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
