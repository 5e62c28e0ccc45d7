"""Images: pulled once for all that wait for them, with progress; hopeless reasons told from those that may heal."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path

from hodei_providers.contract import ImageRejectedError, ProviderError, ProviderUnavailableError
from hodei_providers.docker.credentials import credentials_for, default_file
from hodei_providers.docker.engine import Engine
from hodei_providers.docker.errors import FOREIGN, is_status
from hodei_providers.docker.spec import ImageFacts

#: Seconds before a pull that may heal is tried again; the last stays.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
#: Seconds between lines of progress.
PROGRESS_SECONDS = 2.0

_HOPELESS = re.compile(
    r"pull access denied|repository does not exist|manifest (for .* )?(unknown|not found)|repository .* not found"
    r"|name unknown|unauthorized|authentication required|denied:|invalid reference|no matching manifest"
    r"|invalid repository|must be lowercase|incorrect username or password|no basic auth credentials",
    re.IGNORECASE,
)


@dataclasses.dataclass(slots=True, eq=False)
class _Pull:
    """A pull that is under way.

    :ivar listeners: who wants to hear of its progress.
    """

    listeners: list[Callable[[str], None]]
    task: asyncio.Task[ImageFacts] | None = None

    def tell(self, line: str) -> None:
        for listener in list(self.listeners):
            listener(line)


class Images:
    """Sees to it that images are there.

    :param policy: ``always``, ``if-not-present`` or ``never``.
    :param auth_config: Docker's file of credentials; the default one when empty.
    """

    def __init__(self, engine: Engine, policy: str, auth_config: str) -> None:
        self._engine = engine
        self._policy = policy
        self._auth_config = auth_config
        self._pulls: dict[str, _Pull] = {}

    async def ensure(self, name: str, report: Callable[[str], None]) -> ImageFacts:
        """Return what is known of an image, once it is there. What may heal is tried until this is cancelled.

        :param report: takes lines of progress.
        :raise ImageRejectedError: it can't be had.
        :raise ProviderUnavailableError: the engine can't be reached.
        """
        if self._policy != "always":
            found = await self._engine.image(name)
            if found is not None:
                return found
        if self._policy == "never":
            raise ImageRejectedError(f"image {name} is not there, and is not pulled (HODEI_DOCKER_PULL_POLICY=never)")
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = _Pull([])
            pull.task = asyncio.create_task(self._pull(name, pull), name=f"pull {name}")
        assert pull.task is not None  # noqa: S101 - set beside it
        pull.listeners.append(report)
        try:
            return await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(report)
            if not pull.listeners:
                # Nobody waits for it any more.
                if self._pulls.get(name) is pull:
                    del self._pulls[name]
                pull.task.cancel()

    async def close(self) -> None:
        """Give up what is being pulled."""
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, name: str, pull: _Pull) -> ImageFacts:
        attempt = 0
        while True:
            try:
                await self._pull_once(name, pull)
                found = await self._engine.image(name)
                if found is not None:
                    return found
                reason = "it was pulled and is not there"
            except ImageRejectedError:
                raise
            except ProviderError as error:
                reason = str(error)
            wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
            attempt += 1
            pull.tell(f"image {name} can't be pulled yet: {reason}; trying again in {wait:.0f} s")
            await asyncio.sleep(wait)

    async def _pull_once(self, name: str, pull: _Pull) -> None:
        file = Path(self._auth_config) if self._auth_config else default_file()
        credentials = await credentials_for(name, file)
        began = told = time.monotonic()
        progress = Progress()
        pull.tell(f"image {name}: pulling")
        try:
            async for message in self._engine.pull(name, credentials):
                progress.add(message)
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    told = time.monotonic()
                    pull.tell(f"image {name}: {progress}")
        except FOREIGN as error:
            raise pull_error(name, error) from error
        pull.tell(f"image {name}: pulled in {time.monotonic() - began:.1f} s, {progress.size}")


def pull_error(name: str, error: BaseException) -> ProviderError:
    """Return the contract's error for a pull that failed: `ImageRejectedError` where repeating it is hopeless."""
    message = " ".join(str(getattr(error, "message", error)).split()) or type(error).__name__
    if is_status(error, 400, 401, 403, 404) or _HOPELESS.search(message):
        return ImageRejectedError(f"image {name} can't be had: {message}")
    return ProviderUnavailableError(message)


class Progress:
    """What the engine has told of a pull so far."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int, bool]] = {}

    def add(self, message: dict[str, object]) -> None:
        """Take a message of the engine's."""
        layer, status, detail = message.get("id"), str(message.get("status", "")), message.get("progressDetail")
        if not isinstance(layer, str) or status.startswith("Pulling from"):
            return
        done, total, whole = self._layers.get(layer, (0, 0, False))
        if status == "Downloading" and isinstance(detail, dict) and detail.get("total"):
            done, total = int(detail.get("current", 0)), int(detail["total"])
        elif status in {"Download complete", "Extracting", "Verifying Checksum"}:
            done = total
        whole = whole or status in {"Pull complete", "Already exists"}
        self._layers[layer] = (done, total, whole)

    @property
    def size(self) -> str:
        """How much was fetched."""
        return f"{sum(done for done, _, _ in self._layers.values()) / 1e6:.1f} MB"

    def __str__(self) -> str:
        whole = sum(whole for _, _, whole in self._layers.values())
        total = sum(total for _, total, _ in self._layers.values()) / 1e6
        return f"{whole} of {len(self._layers)} layers there, {self.size} of {total:.1f} MB fetched"
