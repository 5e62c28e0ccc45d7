"""A job that is written in a file: the fields of `JobSpec` as YAML, with durations and sizes as people write them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from hodei.quantities import parse_cpu, parse_duration, parse_size
from hodei.v1 import types_pb2 as wire
from hodei_cli.secret_options import secrets_of_file
from hodei_cli.strategies import set_strategy
from hodei_client.specs import to_duration


def read_job_file(path: str) -> wire.JobSpec:
    """Read a job from YAML.

    :raise click.UsageError: names the field that can't be used.
    """
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
        getattr(message, name).CopyFrom(to_duration(parse_duration(_text(value))))
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
