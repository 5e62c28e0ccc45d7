"""The contract between the server and what runs its workers.

The server composes everything from a few verbs; a provider knows nothing of jobs, logs or the database. Every provider
passes the one suite in `hodei_providers.testing`. What it is asked for stands in `request`, what it tells in
`description`, what it may raise in `errors`; all of it can be imported from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from hodei_providers.description import (
    Capabilities,
    Description,
    ExitReason,
    Handle,
    Health,
    Route,
    WorkerPhase,
)
from hodei_providers.errors import (
    ImageRejectedError,
    LaunchRejectedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    UnsupportedRequestError,
)
from hodei_providers.metrics import Metric
from hodei_providers.request import LaunchRequest, Purpose, Resources, say_nothing

__all__ = [
    "Capabilities",
    "Description",
    "ExitReason",
    "Handle",
    "Health",
    "ImageRejectedError",
    "LaunchRejectedError",
    "LaunchRequest",
    "Provider",
    "ProviderError",
    "ProviderUnavailableError",
    "Purpose",
    "QuotaExceededError",
    "Resources",
    "Route",
    "UnsupportedRequestError",
    "WorkerPhase",
    "say_nothing",
]


class Provider(ABC):
    """Starts, finds, describes and removes workers on one piece of infrastructure.

    An asynchronous context manager: entering connects, leaving releases the connection and leaves the workers alone.
    Every method may be called at the same time as any other. Cancelling a call leaves nothing that `list` can't find.
    """

    #: What it runs workers on, as in the entry point group ``hodei.providers``.
    kind: str

    #: The name jobs ask for; one installation may have several providers of a type.
    name: str

    async def __aenter__(self) -> Self:
        """Connect. Does nothing by default."""
        return self

    async def __aexit__(  # noqa: B027 - a provider without a connection needs none
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release what entering took; workers go on. Does nothing by default."""

    def check_orphan_after(self, seconds: float) -> None:  # noqa: B027 - most need no such setting
        """Refuse settings that would take a worker for gone which may still run; called before entering.

        :param seconds: without the server after which a worker ends its job by itself (`HODEI_ORPHAN_AFTER`).
        :raise ProviderSetupError: names both settings. Nothing is refused by default.
        """

    async def check_beside(self, others: Sequence[Provider]) -> None:  # noqa: B027 - most have nothing in common
        """Refuse settings by which this and another of the server's providers would undo each other's work.

        Called before entering.

        :param others: those that are entered already.
        :raise ProviderSetupError: names both, and what differs. Nothing is refused by default.
        """

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Return what the provider can hold; the same value as long as the provider lives."""

    def route(self) -> Route | None:
        """Return how workers reach the server, known once entered; None (the default) is by its loopback."""
        return None

    def listening(self, address: str) -> None:  # noqa: B027 - most need not know
        """Take note that the listener is open to workers: where they connect, as in `LaunchRequest.server_address`.

        Called once, before the first launch, of providers with a `route`. Does nothing by default.
        """

    def metrics(self) -> Sequence[Metric]:
        """Return figures for whoever watches the provider, at once and from what is known; none by default."""
        return ()

    def refused_names(
        self,
        labels: Mapping[str, str],  # noqa: ARG002 - for those that show them
        annotations: Mapping[str, str],  # noqa: ARG002 - the same
    ) -> Mapping[str, str]:
        """Return which of a job's own labels and annotations can't be honoured, and why; nothing by default.

        :return: reasons by the field's path in `JobSpec`, such as ``labels['app']``.
        """
        return {}

    async def given(self, handle: Handle, purpose: Purpose) -> None:  # noqa: B027 - most show nothing
        """Take note of the job that a worker was given which was not launched for it. Does nothing by default.

        For the infrastructure's own tools only: the job runs whether this succeeds or not.
        """

    async def registered(self, handle: Handle) -> None:  # noqa: B027 - most keep nothing
        """Take note that a worker has its session: its one-time token is burnt. Does nothing by default.

        What is kept of the token can go. Called again each time that the worker has come back.
        """

    @abstractmethod
    async def health(self) -> Health:
        """Ask the infrastructure whether it can be used. Doesn't raise."""

    @abstractmethod
    async def launch(self, request: LaunchRequest) -> Handle:
        """Start a worker; return once it exists, not once it has registered.

        Idempotent by `worker_id`: called again for a worker that exists, it returns that one's handle. What exists is
        found by `list` even if the caller, or this process, died half-way.

        :raise UnsupportedRequestError: a field can't be honoured.
        :raise LaunchRejectedError: the worker can never be launched as asked.
        :raise QuotaExceededError: there is no room now.
        :raise ProviderUnavailableError: the infrastructure can't be reached.
        """

    @abstractmethod
    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is; `WorkerPhase.MISSING` for one there is no trace of.

        A handle with empty `data` is looked up by its worker id.
        """

    async def why_ending(self, handle: Handle) -> str:
        """Return who asks a worker to end, and why, as far as is known while it ends; by default as `describe` says.

        :raise ProviderError: that can't be asked.
        """
        return (await self.describe(handle)).message

    @abstractmethod
    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """End a worker and all it started, and remove what the provider kept for it. Idempotent.

        :param grace: seconds between asking the worker to end and killing it.
        :return: True when no process of it is left; False when that can't be said yet: call again.
        """

    @abstractmethod
    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return every worker of the installation that there is a trace of, running or not."""

    @abstractmethod
    def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield workers as their phase changes. Lossy: the server lists as well."""

    @abstractmethod
    async def diagnose(self, handle: Handle) -> Sequence[str]:
        """Return what could explain a worker's failure, a line each: last output, events, exit reason.

        Doesn't raise.
        """
