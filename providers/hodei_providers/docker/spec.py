"""The container of a worker, as the engine's API takes it: a pure function of what was asked and what is set."""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER, scratch_folders
from hodei_providers.contract import LaunchRequest, Resources, UnsupportedRequestError
from hodei_providers.docker.config import DockerConfig

#: Names of containers and volumes begin so.
NAME_PREFIX = "hodei-"
#: The worker's own folder, on a volume: its token, the authority it trusts, its spool, the jobs' scratch folders. What
#: overflows of a log goes to disk there; on a tmpfs it would count as the job's memory.
STATE_MOUNT = "/hodei"
STATE_FOLDER = f"{STATE_MOUNT}/worker"
#: Every container has these for itself.
SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - see above
TOKEN = "otp"  # noqa: S105 - a file's name
AUTHORITY = "ca.pem"
#: What the engine keeps of the agent's own output, for what comes before it is connected. Hodei has the job's log.
ENGINE_LOG = {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "1"}}
#: Labels of containers and volumes.
INSTALLATION_LABEL = "hodei.installation"
PROVIDER_LABEL = "hodei.provider"
WORKER_LABEL = "hodei.worker"
AGENT_LABEL = "hodei.agent"
LABEL_PREFIX = "hodei."
HOST_GATEWAY_NAME = "host.docker.internal"

_NUMERIC_USER = re.compile(r"(\d+)(?::(\d+))?")


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image says of itself.

    :param image_id: names its content.
    :param user: as in its configuration: a name, a number, either with a group, or empty.
    """

    image_id: str
    user: str = ""
    directory: str = ""


def container_name(worker_id: str) -> str:
    """Return the name of a worker's container, which is found by it whoever died half-way; its state's volume's too."""
    return NAME_PREFIX + worker_id


def home_volume_name(worker_id: str) -> str:
    """Return the name of the volume at the working directory of a worker's container."""
    return f"{NAME_PREFIX}{worker_id}-home"


def agent_volume_name(image_id: str) -> str:
    """Return the name of the volume that holds the agent of a worker image, for containers of other images."""
    return f"{NAME_PREFIX}agent-{image_id.removeprefix('sha256:')[:20]}"


def labels_of(request: LaunchRequest, more: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of what belongs to a worker. Whose it is can't be set by anybody else."""
    return {
        **more,
        **{f"{LABEL_PREFIX}{key}": value for key, value in request.labels.items()},
        INSTALLATION_LABEL: request.installation_id,
        WORKER_LABEL: request.worker_id,
    }


def own_labels(installation_id: str, provider: str) -> list[str]:
    """Return what the containers and volumes of one provider are found by: there may be others of an engine."""
    return [f"{INSTALLATION_LABEL}={installation_id}", f"{PROVIDER_LABEL}={provider}"]


def with_defaults(asked: Resources, config: DockerConfig) -> Resources:
    """Return what a worker is given: what was asked, else what is set for those that ask for nothing."""
    return dataclasses.replace(
        asked,
        cpu_millis=asked.cpu_millis or config.default_cpu,
        memory_bytes=asked.memory_bytes or config.default_memory,
    )


def check_resources(asked: Resources, most: Resources, refused: Mapping[str, str]) -> None:
    """Refuse what can't be honoured.

    :raise UnsupportedRequestError: names the field.
    """
    for name in ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count"):
        wanted, limit = getattr(asked, name), getattr(most, name)
        if wanted and name in refused:
            raise UnsupportedRequestError(f"resources.{name}", refused[name])
        if limit and wanted > limit:
            raise UnsupportedRequestError(f"resources.{name}", f"a container is given at most {limit}")
    if asked.gpu_type:
        raise UnsupportedRequestError("resources.gpu_type", "the engine chooses among its GPUs by number only")


def container_spec(
    request: LaunchRequest, config: DockerConfig, image: ImageFacts, agent_volume: str
) -> dict[str, Any]:
    """Return the body of the request that makes a worker's container.

    :param image: of the container.
    :param agent_volume: the volume with the agent, where the image is a user's own; empty for the worker's image.
    """
    labels = labels_of(request, config.container_labels)
    spec: dict[str, Any] = {
        "Image": request.image or config.worker_image,
        "Env": [f"{name}={value}" for name, value in _environment(request, config, image).items()],
        "Labels": labels,
        "Cmd": [],
        "Healthcheck": {"Test": ["NONE"]},  # Hodei sees for itself, and a check would take the job's memory
        "StopSignal": "SIGTERM",
        "HostConfig": _host_config(request, config, image, labels, agent_volume),
    }
    if agent_volume:
        spec["Entrypoint"] = list(AGENT_COMMAND)
    if config.user:
        spec["User"] = config.user
    return spec


def _environment(request: LaunchRequest, config: DockerConfig, image: ImageFacts) -> dict[str, str]:
    scratch = scratch_folders((*SCRATCH, image.directory.rstrip("/")), [each.target for each in config.mounts])
    environment = request.worker_environment(STATE_FOLDER, scratch)
    environment["HODEI_OTP_TOKEN_FILE"] = f"{STATE_FOLDER}/{TOKEN}"
    if request.ca_pem is not None:
        environment["HODEI_TLS_CA"] = f"{STATE_FOLDER}/{AUTHORITY}"
    return environment


def _host_config(
    request: LaunchRequest, config: DockerConfig, image: ImageFacts, labels: Mapping[str, str], agent_volume: str
) -> dict[str, Any]:
    given = with_defaults(request.resources, config)
    host: dict[str, Any] = {
        "Mounts": _mounts(request, config, image, labels, agent_volume),
        "Tmpfs": {"/tmp": _tmpfs(config)},  # noqa: S108 - the container's own
        "ReadonlyRootfs": config.read_only_root,
        "CapDrop": ["ALL"],
        "CapAdd": list(config.capabilities),
        "SecurityOpt": ["no-new-privileges:true"] if config.no_new_privileges else [],
        "Privileged": False,
        "IpcMode": "private",
        "PidsLimit": config.pids_limit,
        "LogConfig": ENGINE_LOG,
        "NetworkMode": config.network or "default",
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Devices": [
            {"PathOnHost": each.source, "PathInContainer": each.target, "CgroupPermissions": each.access}
            for each in config.devices
        ],
    }
    if given.cpu_millis:
        host["NanoCpus"] = given.cpu_millis * 1_000_000
    if given.memory_bytes:
        # The same for both: no swap on top of it.
        host["Memory"] = host["MemorySwap"] = given.memory_bytes + config.memory_overhead
    if given.disk_bytes:
        host["StorageOpt"] = {"size": str(given.disk_bytes)}
    if given.gpu_count:
        host["DeviceRequests"] = [{"Count": given.gpu_count, "Capabilities": [["gpu"]]}]
    if config.runtime:
        host["Runtime"] = config.runtime
    if config.server_address.startswith("host-gateway"):
        host["ExtraHosts"] = [f"{HOST_GATEWAY_NAME}:host-gateway"]
    return host


def _tmpfs(config: DockerConfig) -> str:
    options = "rw,exec,nosuid,nodev,mode=1777"
    return f"{options},size={config.tmp_size}" if config.tmp_size else options


def _mounts(
    request: LaunchRequest, config: DockerConfig, image: ImageFacts, labels: Mapping[str, str], agent_volume: str
) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        _volume(container_name(request.worker_id), STATE_MOUNT, labels, empty=True),
    ]
    if image.directory.rstrip("/") and config.read_only_root:
        # The engine puts what the image has there into it.
        mounts.append(_volume(home_volume_name(request.worker_id), image.directory, labels, empty=False))
    if agent_volume:
        mounts.append({"Type": "volume", "Source": agent_volume, "Target": AGENT_FOLDER, "ReadOnly": True})
    mounts += [
        {"Type": "bind", "Source": each.source, "Target": each.target, "ReadOnly": each.read_only}
        for each in config.mounts
    ]
    return mounts


def _volume(name: str, target: str, labels: Mapping[str, str], *, empty: bool) -> dict[str, Any]:
    kept = {key: value for key, value in labels.items() if key in {INSTALLATION_LABEL, PROVIDER_LABEL, WORKER_LABEL}}
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "VolumeOptions": {"NoCopy": empty, "Labels": kept},
    }


def agent_filler_spec(worker_image: str, volume: str, image_id: str) -> dict[str, Any]:
    """Return the container that fills the volume with the agent; see `hodei_providers.agent`."""
    return {
        "Image": worker_image,
        "Entrypoint": [*AGENT_COMMAND, "--copy-agent", "/agent"],
        "Cmd": [],
        "User": "0",
        "Labels": {AGENT_LABEL: image_id},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "LogConfig": ENGINE_LOG,
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": volume,
                    "Target": "/agent",
                    "VolumeOptions": {"NoCopy": True, "Labels": {AGENT_LABEL: image_id}},
                }
            ],
        },
    }


def state_archive(request: LaunchRequest, user: str) -> bytes:
    """Return what is put into the state's volume before the start: the worker's folder with its token.

    :param user: of the container. One that is only named can't be looked up here; the folder is then everybody's, and
        there is nobody else in the container.
    """
    numbers = _NUMERIC_USER.fullmatch(user or "0")
    uid, gid = (int(numbers[1]), int(numbers[2] or 0)) if numbers else (0, 0)
    private = numbers is not None
    files = {TOKEN: request.otp.encode()}
    if request.ca_pem is not None:
        files[AUTHORITY] = request.ca_pem
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        folder = tarfile.TarInfo(STATE_FOLDER.removeprefix(f"{STATE_MOUNT}/"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700 if private else 0o777
        entries: list[tuple[tarfile.TarInfo, bytes]] = [(folder, b"")]
        for name, data in files.items():
            entry = tarfile.TarInfo(f"{folder.name}/{name}")
            entry.size, entry.mode = len(data), 0o400 if private else 0o444
            entries.append((entry, data))
        for entry, data in entries:
            entry.uid, entry.gid, entry.mtime = uid, gid, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()
