"""What a provider is asked for: a worker, what it is given, what it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence


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


def say_nothing(line: str) -> None:
    """Take a line of a launch's progress, for nobody."""


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

    def worker_environment(self, directory: str, scratch: Sequence[str] = ()) -> dict[str, str]:
        """Return the worker's variables, but for its token and the authority, which each provider brings in its way.

        :param directory: the worker's own, as it sees it.
        :param scratch: more folders that nobody but this worker has: a worker of several jobs empties them in between.
        """
        emptied = {"HODEI_SCRATCH_FOLDERS": ":".join(scratch)} if scratch and self.max_jobs != 1 else {}
        return {
            **self.environment,
            "HODEI_WORKER_ID": self.worker_id,
            "HODEI_INSTALLATION_ID": self.installation_id,
            "HODEI_SERVER_ADDRESS": self.server_address,
            "HODEI_WORKER_DIR": directory,
            "HODEI_MAX_JOBS": str(self.max_jobs),
            **emptied,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Purpose:
    """The job that a running worker was given; `LaunchRequest` says what the fields are."""

    labels: Mapping[str, str]
    job_labels: Mapping[str, str]
    job_annotations: Mapping[str, str]
