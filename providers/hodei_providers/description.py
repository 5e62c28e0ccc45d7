"""What a provider tells: of itself, and of its workers."""

from __future__ import annotations

import dataclasses
import enum
import signal
from collections.abc import Mapping

from hodei_providers.request import Resources


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


def signal_name(number: int) -> str:
    """Return what a signal is called; its number where it has no name, as most of those for real time."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a provider knows of a worker now.

    :param message: the infrastructure's own words.
    :param permanent: a PENDING worker will never run (its image does not exist).
    :param unconfirmed: a worker that is EXITED or MISSING, or is being ended, may run on where its infrastructure does
        not see it.
    """

    handle: Handle
    phase: WorkerPhase
    exit_code: int | None = None
    signal: int | None = None
    reason: ExitReason = ExitReason.UNKNOWN
    message: str = ""
    permanent: bool = False
    unconfirmed: bool = False


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
