"""The options that give a job its secrets; none takes a value, which everybody on this machine would see."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from hodei.v1 import types_pb2 as wire

F = TypeVar("F", bound=Callable[..., Any])

_SOURCES = "env:VARIABLE or @FILE from here, server-env:VARIABLE or server-file:FILE of the server's"
_OPTIONS = (
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME[=SOURCE]",
        help=f"A variable that is kept out of the log; repeatable. SOURCE: {_SOURCES}; without any, the variable of "
        "this name from here.",
    ),
    click.option(
        "--secret-file",
        "secret_files",
        multiple=True,
        metavar="NAME=SOURCE",
        help="The same as a file of this name in the folder that the job finds as HODEI_SECRETS_DIR; repeatable.",
    ),
)
#: What a job's file says of where a secret is taken from here, beside the fields of `Secret`.
_HERE = {"env": "env:", "path": "@"}


def secret_options(function: F) -> F:
    """Give a command the options that give secrets."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_secrets(options: Mapping[str, Any], *, targets: bool = True) -> list[wire.Secret]:
    """Return the secrets that a command line gives.

    :param targets: whether it says where the job finds them; without it, only a name and a source.
    """
    found: list[wire.Secret] = []
    for option, kind in (("secrets", "variable"), ("secret_files", "file")):
        for written in options[option]:
            name, equals, source = written.partition("=")
            flag = "--secret" if kind == "variable" else "--secret-file"
            if not equals and kind == "file":
                raise click.UsageError(f"{flag} {name}: say where it is from: {flag} {name}=SOURCE, {_SOURCES}")
            secret = wire.Secret(name=name)
            # The text itself may be a value by mistake: it is not repeated.
            _take(secret, source if equals else f"env:{name}", f"{flag} {name}", as_variable=kind == "variable")
            if targets and kind == "file":
                secret.file = name
            found.append(secret)
    return found


def _take(secret: wire.Secret, source: str, where: str, *, as_variable: bool) -> None:
    """Give a secret its source."""
    if source.startswith("@"):
        file = source[1:]
        try:
            value = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as error:
            raise click.UsageError(f"{where}: {file} can't be read: {error.strerror}") from None
        # As a shell does where it puts a file's text into a variable.
        secret.value = value.rstrip(b"\r\n") if as_variable else value
        return
    kind, _, name = source.partition(":")
    if kind == "env" and name:
        if name not in os.environ:
            raise click.UsageError(f"{where}: there is no variable {name} here")
        secret.value = os.fsencode(os.environ[name])
    elif kind == "server-env" and name:
        secret.server_variable = name
    elif kind == "server-file" and name:
        secret.server_file = name
    else:
        raise click.UsageError(
            f"{where}: everybody on this machine can see what stands on a command line, so no value does; "
            f"say where it is from: {_SOURCES}"
        )


def secrets_of_file(values: Any) -> Iterable[wire.Secret]:
    """Yield the secrets of a job's file: a mapping of names to a value, or to where it is from and goes.

    :raise TypeError, ValueError: says what it should be; never with a value.
    """
    if not isinstance(values, dict):
        raise TypeError("is a mapping of names, such as {TOKEN: {env: TOKEN}}")
    fields = {"value", "server_variable", "server_file", "variable", "file"}
    for name, given in values.items():
        secret = wire.Secret(name=str(name))
        entries = given if isinstance(given, dict) else {"value": given}
        for key, value in entries.items():
            if key not in fields | set(_HERE):
                raise ValueError(f"{name} has {key!r}; there are {', '.join(sorted(fields | set(_HERE)))}")
            if not isinstance(value, (str, bytes)):
                raise TypeError(f"{name}: what is given is text; write it in quotes")
            if secret.WhichOneof("source") is not None and key not in {"variable", "file"}:
                raise ValueError(f"{name} has two sources")
            if secret.WhichOneof("target") is not None and key in {"variable", "file"}:
                raise ValueError(f"{name} has two targets")
            if key in _HERE:
                _take(secret, f"{_HERE[key]}{value!s}", f"secret {name}", as_variable="file" not in entries)
            elif key == "value":
                secret.value = value.encode() if isinstance(value, str) else value
            else:
                setattr(secret, key, value)
        yield secret
