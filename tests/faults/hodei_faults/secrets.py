"""Secrets for jobs of tests, and a server that may keep and give them; secrets that every server refuses."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.secrets import MAX_BYTES, MAX_SECRETS
from hodei_server.settings import Settings

VALUE = "pa55word+with/odd~signs"
FILE_VALUE = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEAs3cr3tk3y\n-----END KEY-----\n"


def write_key(file: Path, *keys: bytes) -> str:
    """Write a file of keys and return its path."""
    file.write_bytes(b"\n".join(map(base64.b64encode, keys)))
    return str(file)


def kept_rows(settings: Settings) -> list[Any]:
    """Return what the database keeps of jobs' values."""
    with contextlib.closing(sqlite3.connect(settings.data_dir / "hodei.db")) as database:
        return database.execute("SELECT job_id, data FROM job_secrets").fetchall()


def bad_secrets() -> Iterator[tuple[str, list[wire.Secret], str]]:
    """Yield secrets that are refused, and what the refusal says."""
    value = VALUE.encode()
    good = wire.Secret(name="T", value=value)
    yield "no name", [wire.Secret(value=value)], "secrets[0].name"
    yield "a long name", [wire.Secret(name="T" * 254, value=value)], "secrets[0].name"
    yield "a name with spaces", [wire.Secret(name="T T", value=value)], "secrets[0].name"
    yield (
        "a name twice",
        [good, wire.Secret(name="T", value=value, file="f")],
        "secrets[1].name T is the name of another",
    )
    yield "no source", [wire.Secret(name="T")], "secrets[0] must have a value, a server_variable or a server_file"
    yield "an empty value", [wire.Secret(name="T", value=b"")], "secrets[0].value must not be empty"
    yield "a short value", [wire.Secret(name="T", value=b" 1234567 \n")], "secrets[0].value has fewer than 8 bytes"
    yield "a NUL in a variable", [wire.Secret(name="T", value=value + b"\0")], "secrets[0].value holds a NUL"
    yield "too large a value", [wire.Secret(name="T", value=b"x" * (MAX_BYTES + 1))], "spec.secrets"
    halves = [wire.Secret(name=f"T{number}", value=b"x" * (MAX_BYTES // 2 + 1), file=f"f{number}") for number in (1, 2)]
    yield "too much in all", halves, "spec.secrets must have at most 65536 bytes"
    returns = wire.Secret(name="T", value=b"12345678\r" * 1001)
    yield "too many lines by CR alone", [returns], "spec.secrets must have at most 1000 lines"
    lines = wire.Secret(name="T", value=b"12345678\n" * 1001)
    yield "too many lines", [lines], "spec.secrets must have at most 1000 lines"
    many = [wire.Secret(name=f"T{number}", value=value) for number in range(MAX_SECRETS + 1)]
    yield "too many", many, "spec.secrets must have at most 64 entries"
    yield "no variable's name", [wire.Secret(name="a-b", value=value)], "secrets[0].name is no name of a variable"
    yield "no variable", [wire.Secret(name="T", value=value, variable="1T")], "secrets[0].variable is no name"
    yield (
        "a variable of Hodei's",
        [wire.Secret(name="HODEI_JOB_ID", value=value)],
        "secrets[0].name HODEI_JOB_ID is kept",
    )
    yield "the trace", [wire.Secret(name="T", value=value, variable="TRACEPARENT")], "secrets[0].variable TRACEPARENT"
    yield "a variable that is set", [wire.Secret(name="SET", value=value)], "SET is in spec.environment as well"
    yield (
        "a variable twice",
        [good, wire.Secret(name="U", value=value, variable="T")],
        "secrets[1].variable 'T' is another",
    )
    yield "no file", [wire.Secret(name="T", value=value, file="")], "secrets[0].file must be a file's name"
    yield "a file elsewhere", [wire.Secret(name="T", value=value, file="../f")], "secrets[0].file must be a file's name"
    yield "the folder itself", [wire.Secret(name="T", value=value, file="..")], "secrets[0].file must be a file's name"
    twice = [wire.Secret(name=name, value=value, file="f") for name in "TU"]
    yield "a file twice", twice, "secrets[1].file 'f' is another one's"
    yield (
        "a value that is shown",
        [wire.Secret(name="T", value=b"shown elsewhere")],
        "secrets[0].value stands in another",
    )
    for name in ("PRIVATE_TOKEN", "HODEI_DATABASE_URL", "SHARED", "PATH"):
        secret = wire.Secret(name="T", server_variable=name)
        yield f"the variable {name}", [secret], "secrets[0].server_variable is no variable that HODEI_SECRETS_ENV lists"
    yield (
        "no variable's name to read",
        [wire.Secret(name="T", server_variable="")],
        "secrets[0].server_variable must be the name",
    )
    missing = wire.Secret(name="T", server_variable="SHARED_NOTHING")
    yield "a variable that is not set", [missing], "secrets[0].server_variable is not set on the server"
    short = wire.Secret(name="T", server_variable="SHARED_SHORT")
    yield "a variable that is too short", [short], "secrets[0].server_variable names what has fewer"
    for path in ("nothing", "link", "key.pem/x"):
        secret = wire.Secret(name="T", server_file=path)
        yield f"the file {path}", [secret], "secrets[0].server_file is no file in the server's HODEI_SECRETS_FOLDER"
    for path in ("", ".", "../outside", "/etc/passwd", "a/../../outside", "a\nb"):
        yield (
            f"the path {path!r}",
            [wire.Secret(name="T", server_file=path)],
            "secrets[0].server_file must be a file's path",
        )
