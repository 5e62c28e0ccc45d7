"""How a provider of containers brings the agent into an image that has no worker in it.

The worker's image has the agent as a folder of its own, `AGENT_FOLDER`, which needs nothing of another image but a
kernel: it holds its Python, C library and loader, and a static launcher that starts the one through the other. A
provider makes that folder appear in the container of any image, read-only and at the same path, and runs
`AGENT_COMMAND` there in place of the image's ENTRYPOINT and CMD, as the image's own user and in its own working
directory:

- Docker: a named volume for each worker image, filled by a container of it that runs `copy_command` with the volume
  as target, as root. To fill it again does nothing, so it is done once by each server; then it is mounted read-only.
- Kubernetes: an init container of the worker's image runs `copy_command` with an emptyDir as target.

All that the container's environment says, HODEI_* excepted, is the job's, and the agent itself takes no notice of it.
The container's working directory is that of jobs that name none.

The files are readable and executable by everyone. What the agent writes goes to HODEI_WORKER_DIR, which must be
writable by the user that the container runs as, and to nowhere else.

A worker of several jobs empties its container's own folders of what each has left there; a provider names them in
`LaunchRequest.worker_environment`, by `scratch_folders`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

#: Where the folder is, in the worker's image and in every container that it is brought to.
AGENT_FOLDER = "/opt/hodei-agent"
#: Runs the agent: the whole command of a container, or the beginning of one with options of ``hodei worker``.
AGENT_COMMAND = (f"{AGENT_FOLDER}/hodei-worker",)
#: Exits with 0 while the agent of a container has its stream, else with 1.
HEALTH_COMMAND = (*AGENT_COMMAND, "--health")
#: Runs the agent's Python by itself; what follows are Python's own arguments.
PYTHON_COMMAND = (
    f"{AGENT_FOLDER}/lib/ld.so",
    "--inhibit-cache",
    "--library-path",
    f"{AGENT_FOLDER}/lib",
    "--argv0",
    f"{AGENT_FOLDER}/bin/python3",
    f"{AGENT_FOLDER}/bin/python3",
    "-I",
    "-S",
)


def copy_command(target: str) -> tuple[str, ...]:
    """Return what a container of the worker's image runs to copy the folder.

    :param target: where a volume is mounted in that container, writable.
    """
    return (*AGENT_COMMAND, "--copy-agent", target)


def scratch_folders(folders: Iterable[str], mounted: Iterable[str]) -> list[str]:
    """Return the folders that a container has for itself, and may empty between jobs.

    :param mounted: where settings have mounted something, which others may have, too.
    """
    return [
        folder
        for folder in folders
        if folder and not any(PurePosixPath(folder).is_relative_to(each) for each in mounted)
    ]
