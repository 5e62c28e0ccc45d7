"""Names of secrets that no pod owns yet, kept on disk: the server may read no secrets, so nothing else could tell them.

A file for each stands in the provider's own folder from before the secret is made until a pod owns it. It is named
like the secret and says the namespace and the worker's id. What a process finds there at its start, the one before has
left when it died between the two. A server whose folder was lost finds nothing: its database knows the workers all the
same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from hodei_providers.contract import ProviderUnavailableError
from hodei_providers.kubernetes.names import worker_name

#: Seconds from the start after which what was found then is seen to: the server may be launching these workers again.
GRACE_SECONDS = 60.0


class Unowned:
    """The secrets of one provider of one installation.

    :param folder: None where nothing is to be kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._due_at = time.monotonic() + GRACE_SECONDS
        self._found: dict[str, str] = {}

    async def open(self) -> Mapping[str, str]:
        """Look for what the process before has left; return the namespace of each secret, by its worker's id."""
        if self._folder is not None:
            self._found = await asyncio.to_thread(_read, self._folder)
        return dict(self._found)

    async def note(self, worker_id: str, namespace: str) -> None:
        """Keep the name of a secret that is about to be made.

        :raise ProviderUnavailableError: the disk doesn't take it.
        """
        self._found.pop(worker_id, None)
        if self._folder is not None:
            file = self._folder / worker_name(worker_id)
            try:
                await asyncio.to_thread(file.write_text, f"{namespace}/{worker_id}")
            except OSError as error:
                raise ProviderUnavailableError(f"{file} can't be written: {error.strerror}") from error

    async def forget(self, worker_id: str) -> None:
        """Drop the name of a secret that is owned, or gone."""
        self._found.pop(worker_id, None)
        if self._folder is not None:
            await asyncio.to_thread((self._folder / worker_name(worker_id)).unlink, missing_ok=True)

    def due(self) -> list[tuple[str, str]]:
        """Return what was found, workers' ids and namespaces, once its grace has passed."""
        return list(self._found.items()) if time.monotonic() >= self._due_at else []


def _read(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found: dict[str, str] = {}
    for file in folder.iterdir():
        namespace, separator, worker_id = file.read_text().partition("/")
        if separator:
            found[worker_id] = namespace
        else:
            file.unlink()  # half written: the secret was not made yet
    return found
