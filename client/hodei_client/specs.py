"""From what a program has at hand to a `JobSpec`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from hodei.v1 import types_pb2 as wire
from hodei_client.secrets import make_secrets

_DURATIONS = frozenset({"queue_timeout", "start_timeout", "run_timeout", "cancel_grace", "log_ttl"})


def to_duration(value: float | dt.timedelta | Duration) -> Duration:
    """Return a duration from seconds or a timedelta, exact to the nanosecond."""
    if isinstance(value, Duration):
        return value
    result = Duration()
    if isinstance(value, dt.timedelta):
        result.FromTimedelta(value)
    else:
        result.FromNanoseconds(round(value * 1_000_000_000))
    return result


def make_spec(job: wire.JobSpec | Sequence[str], **fields: Any) -> wire.JobSpec:
    """Return a job's specification.

    :param job: a whole `hodei.v1.JobSpec`, or the command.
    :param fields: more fields of `JobSpec` by their names; durations may be seconds or timedeltas, and `secrets` a
        mapping of names to values or to `hodei.v1.Secret`.
    :raise TypeError: the command is one string (it would have to be split), or a field does not exist.
    """
    if isinstance(job, (str, bytes)):
        raise TypeError("the command is a sequence of arguments, such as ['python', 'train.py'], not one string")
    spec = wire.JobSpec()
    if isinstance(job, wire.JobSpec):
        spec.CopyFrom(job)
    else:
        spec.argv.extend(job)
    for name, value in fields.items():
        if name not in spec.DESCRIPTOR.fields_by_name:
            raise TypeError(f"a job has no field {name!r}")
        one: dict[str, Any] = {name: _as_on_the_wire(name, value)}
        spec.MergeFrom(wire.JobSpec(**one))
    return spec


def _as_on_the_wire(name: str, value: Any) -> Any:
    if name == "secrets":
        return make_secrets(value)
    return to_duration(value) if name in _DURATIONS else value
