"""What of the server's own a job may have as a secret: nothing that the operator has not named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.secrets import MAX_BYTES, SecretError, is_below


class ServerSources:
    """Reads the server's variables and files for jobs.

    :param allowed: names of variables; one that ends with `*` is all that begin so.
    :param folder: what files are looked for in; None where there are none.
    """

    def __init__(self, environment: Mapping[str, str], allowed: Sequence[str], folder: Path | None) -> None:
        self._environment = environment
        self._allowed = allowed
        self._folder = folder

    def read(self, secret: wire.Secret) -> bytes:
        """Return the value that a secret refers to.

        :raise SecretError: it may not be had, or is not there; goes on after the name of the reference.
        """
        return (
            self._file(secret.server_file) if secret.HasField("server_file") else self._variable(secret.server_variable)
        )

    def _variable(self, name: str) -> bytes:
        fits = any(name.startswith(each[:-1]) if each.endswith("*") else name == each for each in self._allowed)
        if not fits or name.startswith("HODEI_"):
            raise SecretError("is no variable that HODEI_SECRETS_ENV lists on the server")
        if name not in self._environment:
            raise SecretError("is not set on the server")
        return self._environment[name].encode(errors="surrogateescape")

    def _file(self, path: str) -> bytes:
        if self._folder is None:
            raise SecretError("can't be read: HODEI_SECRETS_FOLDER names no folder on the server")
        missing = SecretError("is no file in the server's HODEI_SECRETS_FOLDER")
        if not is_below(path):
            raise missing
        try:
            folder = self._folder.resolve(strict=True)
            # Links are followed, as mounted secrets are made of them, but not out of the folder.
            file = (folder / path).resolve(strict=True)
            if not file.is_relative_to(folder) or not file.is_file():
                raise missing
            with file.open("rb") as opened:
                return opened.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise missing from None
        except OSError as error:
            raise SecretError(f"can't be read by the server: {error.strerror}") from None
