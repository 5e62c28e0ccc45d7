"""What a worker is told by its environment."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from hodei.address import Address, parse_address
from hodei.transport import TlsFiles

T = TypeVar("T")

#: The launcher of the agent's own folder (worker/image/launcher.c) hands a container's environment on under such names.
JOB_PREFIX = "HODEI_JOB_ENV_"
#: What a job inherits of the worker's environment where there is no container that it belongs to.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


class WorkerSettingsError(ValueError):
    """A variable is missing or can't be read; the message names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Times in seconds, sizes in bytes.

    :param directory: for what overflows memory, for the jobs' scratch folders, and for whether the server is there.
    :param job_environment: what jobs start from: all that the container's image says, or a part of the worker's own.
    :param job_directory: where jobs run that don't say: the image's own, or None for their scratch folder.
    :param scratch_folders: the worker's alone, too: what a job has put there goes with it.
    :param max_jobs: how many jobs to run before going; 0 is without end.
    :param log_memory: of a log that is not acknowledged, what is kept in memory.
    :param spool_limit: what overflows to disk at most; then the job waits on a full pipe.
    :param server_gone_timeout: without a server for so long, a worker that has nothing to deliver ends.
    :param delivery_timeout: the same for one that has.
    :param term_grace: what SIGTERM to the worker leaves its job between a SIGTERM of its own and SIGKILL; None lets the
        job end by itself.
    :param drain_timeout: how long the output of a job is read on after its process has gone.
    """

    worker_id: str
    server: Address
    otp: str
    tls: TlsFiles
    allow_plaintext: bool
    level: int
    directory: Path
    job_environment: Mapping[str, str]
    job_directory: Path | None
    scratch_folders: tuple[Path, ...]
    max_jobs: int
    log_memory: int
    spool_limit: int
    server_gone_timeout: float
    delivery_timeout: float
    term_grace: float | None
    drain_timeout: float


def read_settings(
    environment: Mapping[str, str], *, worker_id: str = "", max_jobs: int | None = None
) -> WorkerSettings:
    """Read the environment; the token's file is removed once it was read.

    :param worker_id: overrides HODEI_WORKER_ID, as `max_jobs` does HODEI_MAX_JOBS.
    :raise WorkerSettingsError: names the variable and what is wrong with it.
    """

    def read(name: str, default: str, reader: Callable[[str], T]) -> T:
        text = environment.get(name) or default
        if not text:
            raise WorkerSettingsError(f"{name} is not set")
        try:
            return reader(text)
        except ValueError as error:
            raise WorkerSettingsError(f"{name}: {text!r} can't be used: {error}") from None

    def path(name: str) -> Path | None:
        text = environment.get(name)
        return Path(text) if text else None

    directory = path("HODEI_WORKER_DIR")
    in_container = any(name.startswith(JOB_PREFIX) for name in environment)
    return WorkerSettings(
        worker_id=worker_id or read("HODEI_WORKER_ID", "", str),
        server=read("HODEI_SERVER_ADDRESS", "", parse_address),
        tls=TlsFiles(path("HODEI_TLS_CA"), path("HODEI_TLS_CERT"), path("HODEI_TLS_KEY")),
        allow_plaintext=read("HODEI_ALLOW_PLAINTEXT", "false", _boolean),
        level=read("HODEI_LOG_LEVEL", "info", _level),
        directory=directory or Path(tempfile.mkdtemp(prefix="hodei-worker-")),
        job_environment=_job_environment(environment, in_container=in_container),
        job_directory=Path.cwd() if in_container else None,
        scratch_folders=tuple(map(Path, filter(None, environment.get("HODEI_SCRATCH_FOLDERS", "").split(":")))),
        max_jobs=read("HODEI_MAX_JOBS", "1", _count) if max_jobs is None else max_jobs,
        log_memory=read("HODEI_LOG_MEMORY_BYTES", str(8 << 20), _memory),
        spool_limit=read("HODEI_SPOOL_BYTES", str(1 << 30), _count),
        server_gone_timeout=read("HODEI_SERVER_GONE_TIMEOUT", "600", _seconds),
        delivery_timeout=read("HODEI_DELIVERY_TIMEOUT", "86400", _seconds),
        term_grace=read("HODEI_TERM_GRACE", "", _seconds) if environment.get("HODEI_TERM_GRACE") else None,
        drain_timeout=read("HODEI_DRAIN_TIMEOUT", "2", _seconds),
        # Last: a variable that can't be read must not cost the token.
        otp=_read_otp(environment),
    )


def _job_environment(environment: Mapping[str, str], *, in_container: bool) -> dict[str, str]:
    if in_container:
        found = {
            name.removeprefix(JOB_PREFIX): value for name, value in environment.items() if name.startswith(JOB_PREFIX)
        }
    else:
        found = {name: environment[name] for name in INHERITED if name in environment}
    return {"PATH": _DEFAULT_PATH} | found


def _read_otp(environment: Mapping[str, str]) -> str:
    name = environment.get("HODEI_OTP_TOKEN_FILE")
    if name:
        file = Path(name)
        try:
            token = file.read_text().strip()
            file.unlink()
        except OSError as error:
            # A mounted secret can't be removed from here; whoever mounted it does that, and the token is burnt anyway.
            if error.errno != errno.EROFS:
                raise WorkerSettingsError(f"HODEI_OTP_TOKEN_FILE: {name} can't be read: {error.strerror}") from None
        return token
    token = environment.get("HODEI_OTP_TOKEN", "")
    if not token:
        raise WorkerSettingsError("neither HODEI_OTP_TOKEN_FILE nor HODEI_OTP_TOKEN is set")
    return token


def scrub_environment() -> None:
    """Take the worker's own settings out of the environment that its children would inherit."""
    for name in [name for name in os.environ if name.startswith("HODEI_")]:
        del os.environ[name]


def _level(text: str) -> int:
    if text not in _LEVELS:
        raise ValueError(f"it is one of {', '.join(_LEVELS)}")
    return _LEVELS[text]


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError("it is true or false")
    return text.lower() in {"true", "1"}


def _memory(text: str) -> int:
    number = _count(text)
    if number < 1 << 16:
        raise ValueError("it is at least 65536, one chunk")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("it is not negative")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise ValueError("it is a number of seconds")
    return number
