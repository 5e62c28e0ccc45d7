"""What a job may say of its secrets; and a job without their values, as it is kept and shown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from hodei.secrets import MIN_BYTES, long_enough
from hodei.v1 import types_pb2 as wire
from hodei_server.domain.errors import Violation

MAX_SECRETS = 64
#: Of all values of a job together. Each is looked for in all that the job prints, and so is each of their lines.
MAX_BYTES = 64 << 10
MAX_LINES = 1000

_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,252}")
_FILE = re.compile(r"(?!\.{1,2}\Z)[-A-Za-z0-9_.]{1,253}")
#: Set for every job, beside what begins with HODEI_: a variable or a secret under this name would not be there.
TAKEN_VARIABLES = frozenset({"TRACEPARENT"})

TOO_SHORT = (
    f"has fewer than {MIN_BYTES} bytes besides white space: it could not be told apart from what a log says anyway"
)


class SecretError(Exception):
    """A secret's value can't be had; the message names the secret, and never tells the value."""


#: Bytes that tell which key something is under.
KEY_ID_BYTES = 8
DIGEST_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Sealed:
    """A job's values as they are kept: encrypted.

    :ivar key_id: tells which key they are under, and nothing of it.
    :ivar digests: of all that the job was submitted with, under each key, the newest first; each begins with which key
        that is. Whoever has no key can't try values against them.
    """

    key_id: bytes
    data: bytes
    digests: Sequence[bytes]

    def lacks_key_of(self, digest: bytes) -> bool:
        """Whether a digest of another job is under a key that is not there any more."""
        keys = {each[:KEY_ID_BYTES] for each in self.digests}
        return len(digest) == KEY_ID_BYTES + DIGEST_BYTES and digest[:KEY_ID_BYTES] not in keys


def check_secrets(spec: wire.JobSpec) -> Iterator[Violation]:
    """Yield what is wrong with a job's secrets, never with a word of a value."""
    secrets = spec.secrets
    if len(secrets) > MAX_SECRETS:
        yield Violation("spec.secrets", f"must have at most {MAX_SECRETS} entries")
        return
    names: set[str] = set()
    targets: set[tuple[str, str]] = set()
    for place, secret in enumerate(secrets):
        field = f"spec.secrets[{place}]"
        if not _NAME.fullmatch(secret.name):
            yield Violation(
                f"{field}.name",
                "must be 1 to 253 letters, digits, '_', '-' and '.', and begin with none of the last two",
            )
        elif secret.name in names:
            yield Violation(f"{field}.name", f"{secret.name} is the name of another one")
        names.add(secret.name)
        yield from _source(field, secret)
        yield from _target(field, secret, spec.environment)
        kind, target = target_of(secret)
        if (kind, target) in targets:
            yield Violation(f"{field}.{kind}", f"{target!r} is another one's")
        targets.add((kind, target))
    yield from check_values("spec.secrets", [secret.value for secret in secrets])
    yield from _elsewhere(spec)


def _source(field: str, secret: wire.Secret) -> Iterator[Violation]:
    source = secret.WhichOneof("source")
    if source is None:
        yield Violation(field, "must have a value, a server_variable or a server_file")
    elif source == "value":
        for wrong in wrong_in_value(secret, secret.value):
            yield Violation(f"{field}.value", wrong)
    elif source == "server_variable" and not _VARIABLE.fullmatch(secret.server_variable):
        yield Violation(f"{field}.server_variable", "must be the name of a variable")
    elif source == "server_file" and not is_below(secret.server_file):
        yield Violation(f"{field}.server_file", "must be a file's path, relative and without '..'")


def _target(field: str, secret: wire.Secret, environment: Mapping[str, str]) -> Iterator[Violation]:
    kind, target = target_of(secret)
    if kind == "file":
        if not _FILE.fullmatch(target):
            yield Violation(f"{field}.file", "must be a file's name: 1 to 253 letters, digits, '-', '_' and '.'")
        return
    field = f"{field}.{'variable' if secret.HasField('variable') else 'name'}"
    if not _VARIABLE.fullmatch(target):
        yield Violation(field, "is no name of a variable; say in which variable or file the job finds it")
    elif target.startswith("HODEI_") or target in TAKEN_VARIABLES:
        yield Violation(field, f"{target} is kept for Hodei itself")
    elif target in environment:
        yield Violation(field, f"{target} is in spec.environment as well")


def _elsewhere(spec: wire.JobSpec) -> Iterator[Violation]:
    """Yield which values stand in another field, too, and would be shown with it."""
    if not any(secret.value for secret in spec.secrets):
        return
    others = wire.JobSpec()
    others.CopyFrom(spec)
    others.ClearField("secrets")
    shown = others.SerializeToString()
    for place, secret in enumerate(spec.secrets):
        value = secret.value.strip()
        if long_enough(value) and value in shown:
            yield Violation(f"spec.secrets[{place}].value", "stands in another field as well, which is kept and shown")


def wrong_in_value(secret: wire.Secret, value: bytes) -> Iterator[str]:
    """Yield what is wrong with a value, wherever it is from."""
    if not value:
        yield "must not be empty"
    elif not long_enough(value):
        yield TOO_SHORT
    elif len(value) > MAX_BYTES:
        yield f"must have at most {MAX_BYTES} bytes"
    if target_of(secret)[0] == "variable" and b"\0" in value:
        yield "holds a NUL, which no variable can: let it be a file"


def check_values(field: str, values: Iterable[bytes]) -> Iterator[Violation]:
    """Yield what is wrong with all values of a job together."""
    values = list(values)
    if sum(map(len, values)) > MAX_BYTES:
        yield Violation(field, f"must have at most {MAX_BYTES} bytes in all")
    elif sum(len(value.splitlines()) for value in values) > MAX_LINES:
        yield Violation(field, f"must have at most {MAX_LINES} lines in all")


def is_below(path: str) -> bool:
    """Return whether a path is a relative one that leads to no folder above."""
    parts = PurePosixPath(path).parts
    printable = all(character.isprintable() for character in path)
    return bool(parts) and not path.startswith("/") and ".." not in parts and len(path) <= 1024 and printable


def target_of(secret: wire.Secret) -> tuple[str, str]:
    """Return where the job finds a secret: `variable` or `file`, and its name."""
    return ("file", secret.file) if secret.HasField("file") else ("variable", secret.variable or secret.name)


def without_values(spec: wire.JobSpec) -> wire.JobSpec:
    """Return a job as it is kept: names, targets and references, but no values."""
    if not any(secret.HasField("value") for secret in spec.secrets):
        return spec
    bare = wire.JobSpec()
    bare.CopyFrom(spec)
    for secret in bare.secrets:
        secret.ClearField("value")
    return bare


def give_again(spec: wire.JobSpec, given: Iterable[wire.Secret]) -> tuple[list[Violation], list[str]]:
    """Give the secrets of a job that was kept their sources again, by name.

    :return: what is wrong with what was given, and the names of secrets that have no source yet.
    """
    own = {secret.name: secret for secret in spec.secrets}
    wrong: list[Violation] = []
    seen: set[str] = set()
    for place, secret in enumerate(given):
        field, source = f"secrets[{place}]", secret.WhichOneof("source")
        if secret.name not in own:
            wrong.append(Violation(f"{field}.name", "is no secret of the job"))
        elif secret.name in seen:
            wrong.append(Violation(f"{field}.name", f"{secret.name} is given twice"))
        elif source is None:
            wrong.append(Violation(field, "must have a value, a server_variable or a server_file"))
        elif secret.WhichOneof("target") is not None:
            wrong.append(Violation(field, "must have no target: it goes where the job has it"))
        else:
            own[secret.name].MergeFrom(secret)
        seen.add(secret.name)
    return wrong, [secret.name for secret in spec.secrets if secret.WhichOneof("source") is None]
