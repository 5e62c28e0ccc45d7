"""The secrets of a job, from what a program has at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hodei.v1 import types_pb2 as wire

#: By name: a value, which the job finds in a variable of that name, or a whole `hodei.v1.Secret`.
Secrets = Mapping[str, str | bytes | wire.Secret] | Iterable[wire.Secret]


def make_secrets(secrets: Secrets) -> list[wire.Secret]:
    """Return the secrets of a job, or those that are given again.

    :raise TypeError: one is neither a value nor a `hodei.v1.Secret`.
    """
    if not isinstance(secrets, Mapping):
        return list(secrets)
    made: list[wire.Secret] = []
    for name, given in secrets.items():
        secret = wire.Secret()
        if isinstance(given, wire.Secret):
            secret.CopyFrom(given)
        elif isinstance(given, (str, bytes)):
            secret.value = given.encode() if isinstance(given, str) else given
        else:
            raise TypeError(f"the secret {name!r} is text, bytes or a hodei.v1.Secret")
        secret.name = name
        made.append(secret)
    return made
