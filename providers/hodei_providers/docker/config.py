"""Settings of the Docker provider: ``HODEI_DOCKER_*``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from hodei.address import parse_address
from hodei.quantities import parse_cpu
from hodei_providers.config import (
    ConfigError,
    amount,
    boolean,
    count,
    duration,
    each_of,
    one_of,
    option,
    pairs,
    positive,
    size,
    words,
)
from hodei_providers.declared_types import mistyped


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the engine's machine that every container sees."""

    source: str
    target: str
    read_only: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A device of the engine's machine that every container may use.

    :param access: of ``r``, ``w`` and ``m`` (mknod).
    """

    source: str
    target: str
    access: str


def engine_address(text: str) -> str:
    """Return the address of an engine as it is.

    :raise ValueError: it is none.
    """
    if not text.startswith(("unix:///", "tcp://", "http://", "https://")):
        raise ValueError("it begins with unix:///, tcp://, http:// or https://")
    parts = urlsplit(text)
    # Asking for the port raises where it is none.
    if parts.scheme != "unix" and (parts.port == 0 or not parts.hostname):
        raise ValueError("write tcp://host:port")
    return text


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("there is no such file")
    return text


def _mount(text: str) -> Mount:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source.startswith("/") or not target.startswith("/") or mode not in {"", "ro", "rw"}:
        raise ValueError("write /source:/target, with :ro where it must not be written")
    return Mount(source, target, mode == "ro")


def _device(text: str) -> Device:
    source, _, rest = text.partition(":")
    target, _, access = rest.partition(":")
    if not source.startswith("/dev/") or (target and not target.startswith("/")) or not set(access) <= set("rwm"):
        raise ValueError("write /dev/name, /dev/name:/dev/other or /dev/name:/dev/other:rw")
    return Device(source, target or source, access or "rwm")


def _server_address(text: str) -> str:
    if text != "host-gateway":
        parse_address(text, default_port=0)
    return text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """How containers are made, and where. Sizes are bytes, durations seconds, processors thousandths.

    Built in code, it takes the values themselves: numbers, tuples, mappings; those of another type are refused.

    :param host: the engine's address; empty is `DOCKER_HOST`, or the default socket.
    :param server_address: how containers reach the workers' listener; empty is the network's gateway.
    :raise ConfigError: values are of another type; a line for each, with the variable and what was expected.
    :raise ValueError: options contradict each other.
    """

    prefix: ClassVar[str] = "HODEI_DOCKER_"

    host: str = option("", "The engine; `DOCKER_HOST` or `unix:///var/run/docker.sock` when empty.", engine_address)
    tls_ca: str = option("", "Whom to trust as the engine, PEM; TLS is used where one of the three is given.", _file)
    tls_cert: str = option("", "What the server shows to the engine, PEM; with the key.", _file)
    tls_key: str = option("", "Its key, PEM.", _file)
    network: str = option("", "The containers' network; the engine's default bridge when empty.", str)
    worker_image: str = option("hodei-jobs-worker:latest", "Overrides `HODEI_WORKER_IMAGE`.", str)
    pull_policy: str = option(
        "if-not-present",
        "`always`, `if-not-present` or `never`.",
        one_of("always", "if-not-present", "never"),
        written="if-not-present",
    )
    auth_config: str = option(
        "",
        "Docker's own file of credentials and helpers; `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.",
        _file,
    )
    server_address: str = option(
        "",
        "The workers' listener as containers see it, `host` or `host:port`; `host-gateway` where the engine leads "
        "`host.docker.internal` there; the network's gateway when empty.",
        _server_address,
    )
    max_workers: int = option(0, "Containers at once; 0 is twice the engine's processors, at least 8.", count)
    default_cpu: int = option(0, "Processors of a job that asks for none (`0.5`); no limit when empty.", parse_cpu)
    default_memory: int = option(0, "Memory of a job that asks for none; no limit when empty.", size)
    max_cpu: int = option(0, "The most processors of a job; the engine's when empty.", parse_cpu)
    max_memory: int = option(0, "The most memory of a job; the engine's when empty.", size)
    memory_overhead: int = option(
        64 << 20, "What a container gets beside the job's memory, for the agent in it.", size, written="64Mi"
    )
    pids_limit: int = option(4096, "Processes and threads of a container.", positive, written="4096")
    tmp_size: int = option(
        0,
        "Bound of `/tmp`, which counts as the job's memory. When empty the job's memory bounds it; where that has no "
        "limit, half of the machine's.",
        size,
    )
    read_only_root: bool = option(
        default=True, description="Only `/tmp` and the working directory can be written.", read=boolean, written="true"
    )
    no_new_privileges: bool = option(
        default=True, description="Set-uid programs give nothing.", read=boolean, written="true"
    )
    capabilities: tuple[str, ...] = option((), "Capabilities that are not dropped (`NET_BIND_SERVICE,…`).", words)
    user: str = option("", "Whom containers run as (`1000:1000`); the image's user when empty.", str)
    runtime: str = option("", "The OCI runtime (`runsc`); the engine's default when empty.", str)
    mounts: tuple[Mount, ...] = option((), "More mounts of every container, `/source:/target[:ro],…`.", each_of(_mount))
    devices: tuple[Device, ...] = option(
        (), "Devices of every container, `/dev/name[:/dev/target[:rwm]],…`.", each_of(_device)
    )
    gpus: int = option(0, "GPUs that jobs may ask for, given as the engine's device requests.", count)
    container_labels: Mapping[str, str] = option({}, "More labels of every container, `key=value,…`.", pairs)
    labels: Mapping[str, str] = option({}, "The provider's, for `required_labels` and `preferred_labels`.", pairs)
    regions: tuple[str, ...] = option((), "For a job's `region`.", words)
    cost_per_hour: float = option(0.0, "For the strategy `lowest-cost`.", amount, written="0")
    api_timeout: float = option(30.0, "How long an answer of the engine is waited for.", duration, written="30s")

    def __post_init__(self) -> None:
        wrong = [
            f"{self.prefix}{field.upper()}: {getattr(self, field)!r} can't be used: {expected}"
            for field, expected in mistyped(self)
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("HODEI_DOCKER_TLS_CERT and HODEI_DOCKER_TLS_KEY go together")
        for most, default in (("max_cpu", "default_cpu"), ("max_memory", "default_memory")):
            if 0 < getattr(self, most) < getattr(self, default):
                raise ValueError(f"HODEI_DOCKER_{default.upper()} is more than HODEI_DOCKER_{most.upper()}")
