"""The contract between the server and what runs its workers.

The server composes everything from a few verbs; a provider knows nothing of jobs, logs or the database. Every provider
passes the one suite in `hodei_providers.testing`.

Errors a provider may raise, and no others:

    ProviderError                  something went wrong; `retryable` says whether trying again may help
    ├── ProviderUnavailableError   the infrastructure can't be reached or is overloaded: wait and try again
    ├── QuotaExceededError         there is no room now: wait and try again
    ├── LaunchRejectedError        this worker can never be launched as asked (an invalid request)
    │   └── ImageRejectedError     its image is not there, or may not be had
    └── UnsupportedRequestError    the provider can't honour a field; `field` names it
"""

from __future__ import annotations

import dataclasses
import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from hodei_providers.metrics import Metric


class ProviderError(Exception):
    """A provider could not do what it was asked.

    :param message: one sentence for people.
    :param retryable: whether the same call may succeed later.
    """

    retryable: bool = True

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class ProviderUnavailableError(ProviderError):
    """The infrastructure can't be reached or is overloaded."""


class QuotaExceededError(ProviderError):
    """The infrastructure has no room for another worker now."""


class LaunchRejectedError(ProviderError):
    """The worker can never be launched as asked."""

    retryable = False


class ImageRejectedError(LaunchRejectedError):
    """The worker's image is not there, or may not be had; trying again can't heal that."""


class UnsupportedRequestError(ProviderError):
    """The provider can't honour a field of the request.

    :param field: the field's path in `JobSpec`, such as ``resources.gpu_count``.
    """

    retryable = False

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What a worker is given, or can be given at most; 0 means "not asked for" or "no limit".

    :param cpu_millis: thousandths of a processor.
    """

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpu_count: int = 0
    gpu_type: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can hold. Frozen: the scheduler compares it, tests ask it, nobody asks for a provider's type.

    :param max_workers: how many workers may exist at once.
    :param max_resources: the most one worker can be given; 0 in a field means no limit is known.
    :param images: jobs may name a container image.
    :param isolation: a job can't reach what its user could reach on the host.
    :param resource_limits: `Resources` of a launch are enforced.
    :param refused_resources: fields of `Resources` that it can't honour all the same, each with the reason.
    :param parallel_launches: how many launches may be under way at once.
    :param architectures: of the processors, as images name them (amd64, arm64); empty where the provider can't say.
    :param cost_per_hour: of one worker, in the installation's own unit.
    :param typical_startup: seconds from launch to registered, until some were measured.
    :param survives_server: workers outlive the server's process.
    :param image_user: as whom a job's own image runs, in words; empty where that is the image's user, whoever it is.
    :param one_tenant: a worker is launched for one tenant: none can be started before it is known for whom.
    """

    max_workers: int
    max_resources: Resources = dataclasses.field(default_factory=Resources)
    images: bool = False
    isolation: bool = False
    resource_limits: bool = False
    refused_resources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parallel_launches: int = 16
    architectures: tuple[str, ...] = ()
    cost_per_hour: float = 0.0
    typical_startup: float = 1.0
    regions: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    gpu_types: tuple[str, ...] = ()
    survives_server: bool = True
    image_user: str = ""
    one_tenant: bool = False


def say_nothing(line: str) -> None:
    """Take a line of a launch's progress, for nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """How a provider's workers reach the server, where they are not on its loopback.

    :param host: the name or address they connect to; the server shows a certificate for it.
    :param port: 0 is the port that the workers' listener has.
    :param listen: an address of this machine at which the workers' listener opens for them; empty where somebody else
        sees to it that `host` leads there.
    """

    host: str
    port: int = 0
    listen: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything a provider needs to start a worker.

    :param worker_id: written down before the launch; names derive from it.
    :param installation_id: whose worker it is; `list` returns no other's.
    :param server_address: the worker listener as seen from this provider (``host:port``, ``http://…`` or ``https://…``).
    :param otp: the one-time token; never put where a job, or another user, can read it if a file can be used.
    :param ca_pem: the certificate authority to trust for `server_address`, if it is not a public one.
    :param environment: more variables for the worker (its log level, its bounds); all begin with ``HODEI_``.
    :param max_jobs: how many jobs the worker may run before it goes; 0 is without end.
    :param labels: what the worker is for, to be shown by the infrastructure's own tools: ``tenant``, and ``job``,
        ``attempt`` and ``attempt-uid`` where it is launched for one.
    :param job_labels: that job's own labels; `Provider.refused_names` refused none of them.
    :param job_annotations: the same of its annotations.
    :param grace: seconds that its job has between SIGTERM and SIGKILL.
    :param deadline: seconds after which a worker that runs this one job and no other can be doing nothing useful any
        more, from its start; 0 is never.
    :param report: takes a line of progress for people (an image being pulled); it ends up in the job's log.
    """

    worker_id: str
    installation_id: str
    server_address: str
    otp: str
    resources: Resources = dataclasses.field(default_factory=Resources)
    image: str = ""
    max_jobs: int = 1
    ca_pem: bytes | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    job_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    job_annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    grace: float = 0.0
    deadline: float = 0.0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    report: Callable[[str], None] = dataclasses.field(default=say_nothing, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Purpose:
    """The job that a running worker was given; `LaunchRequest` says what the fields are."""

    labels: Mapping[str, str]
    job_labels: Mapping[str, str]
    job_annotations: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Handle:
    """Names one worker on one provider, wherever it is kept.

    :param data: what the provider needs to find it again (a pid and its start time, a namespace); strings only, so that
        it can be stored as JSON.
    """

    worker_id: str
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)


class WorkerPhase(enum.Enum):
    """Where a worker is, as its infrastructure sees it."""

    PENDING = "pending"
    RUNNING = "running"
    EXITED = "exited"
    #: The infrastructure has no trace of it.
    MISSING = "missing"


class ExitReason(enum.Enum):
    """Why a worker is gone, as its infrastructure tells it."""

    UNKNOWN = "unknown"
    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    EVICTED = "evicted"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    #: It was there for longer than the infrastructure was told to let it.
    DEADLINE = "deadline"


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a provider knows of a worker now.

    :param message: the infrastructure's own words.
    :param permanent: a PENDING worker will never run (its image does not exist).
    """

    handle: Handle
    phase: WorkerPhase
    exit_code: int | None = None
    signal: int | None = None
    reason: ExitReason = ExitReason.UNKNOWN
    message: str = ""
    permanent: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Whether a provider can be used now.

    :param message: why it can't, or why it is degraded; the same words as long as the reason is the same.
    :param degraded: it works, but not as it should.
    :param details: figures of this moment, such as how long it took to answer.
    :param total: what the infrastructure has in all for this installation's workers, as it says now; None where it
        doesn't, and 0 in a field where nothing bounds the sum over all workers.
    :param elastic: a worker for which there is no room may be launched all the same: it waits there, or room is added
        for it. `total` is for comparing then, and no bound.
    """

    healthy: bool
    message: str = ""
    degraded: bool = False
    details: str = dataclasses.field(default="", compare=False)
    total: Resources | None = dataclasses.field(default=None, compare=False)
    elastic: bool = dataclasses.field(default=False, compare=False)


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

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Return what the provider can hold; the same value as long as the provider lives."""

    def route(self) -> Route | None:
        """Return how workers reach the server, known once entered; None (the default) is by its loopback."""
        return None

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
