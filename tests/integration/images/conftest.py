"""The images on a real engine: built from the checkout, their workers run for a real server."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hodei import __version__
from hodei_faults.needs import lacks
from hodei_faults.ports import free_port
from hodei_providers.agent import copy_command
from hodei_providers.docker.spec import agent_volume_name

ROOT = Path(__file__).parents[3]
HODEI = str(Path(sys.executable).with_name("hodei"))
PATIENCE = 180
BUILD_PATIENCE = 900
LABEL = "io.hodei.test"

#: The process provider's worker, made a container of an image: everything but its isolation is as in production.
WORKER = """\
#!/bin/sh
exec docker run --name "$HODEI_WORKER_ID" --label {label} --network host \\
    -e HODEI_WORKER_ID -e HODEI_SERVER_ADDRESS -e HODEI_MAX_JOBS -e HODEI_WORKER_DIR=/tmp/hodei \\
    -e HODEI_OTP_TOKEN="$(cat "$HODEI_OTP_TOKEN_FILE")" {options}
"""


class Engine:
    """The command `docker`, and what a test leaves behind.

    :ivar label: on everything that a test makes.
    """

    def __init__(self) -> None:
        self.label = f"{LABEL}={secrets.token_hex(6)}"

    def attempt(
        self, *arguments: str, stdin: str | None = None, patience: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            ["docker", *arguments], input=stdin, capture_output=True, text=True, timeout=patience, check=False
        )

    def __call__(self, *arguments: str, stdin: str | None = None, patience: float = PATIENCE) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.attempt(*arguments, stdin=stdin, patience=patience)
        assert done.returncode == 0, f"docker {shlex.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def run(self, *arguments: str) -> str:
        """Run a container to its end; return what it printed."""
        return self("run", "--rm", "--label", self.label, *arguments)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of an image or a container."""
        found: list[dict[str, Any]] = json.loads(self("inspect", name))
        return found[0]

    def image(self, name: str) -> str:
        """Return the id of the image of a name; empty when there is none."""
        return self.attempt("image", "inspect", "--format", "{{.Id}}", name).stdout.strip()

    def build(self, dockerfile: str, *, context: Path | None = None) -> str:
        """Build an image and return its name; of what was built under that name before nothing is kept.

        :param dockerfile: the text of one, or with a context the name of one there.
        """
        name = f"hodei-test-{hashlib.sha256(dockerfile.encode()).hexdigest()[:12]}"
        arguments = ["build", "--quiet", "--label", LABEL, "--tag", name]
        if context is None:
            self(*arguments, "-", stdin=dockerfile, patience=BUILD_PATIENCE)
        else:
            self(*arguments, "--file", str(context / dockerfile), str(context), patience=BUILD_PATIENCE)
        self("image", "prune", "--force", "--filter", f"label={LABEL}")
        return name

    @staticmethod
    def wait_until(condition: Callable[[], bool], what: str | Callable[[], str], patience: float = PATIENCE) -> None:
        """Wait for something that only looking can tell."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, what if isinstance(what, str) else what()
            signal.sigtimedwait([], 0.05)

    def clean(self) -> None:
        """Remove what the test has made."""
        for kind in ("container", "volume"):
            left = self(kind, "ls", "--quiet", "--filter", f"label={self.label}", *(["--all"] * (kind == "container")))
            if left:
                self(kind, "rm", "--force", *left.split())


def _engine_is_there() -> bool:
    try:
        return Engine().attempt("version").returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def _real_engine() -> None:
    if not _engine_is_there():
        lacks("there is no Docker engine")


@pytest.fixture
def docker(_real_engine: None) -> Iterator[Engine]:
    """Return the engine; what the test makes with its label is removed afterwards."""
    engine = Engine()
    yield engine
    engine.clean()


@pytest.fixture
def borrowed_names(docker: Engine) -> Iterator[None]:
    """Give the names of the images that a test builds by `just images` back to those that had them."""
    names = [f"hodei-jobs-{part}:{tag}" for part in ("worker", "server") for tag in ("latest", __version__)]
    before = {name: docker.image(name) for name in names}
    yield
    for name, image in before.items():
        built = docker.image(name)
        if image and built != image:
            docker("tag", image, name)
            docker.attempt("rmi", built)
            docker.attempt("volume", "rm", agent_volume_name(built))


@pytest.fixture(scope="session")
def worker_image(_real_engine: None) -> str:
    """Return the worker's image: the one that HODEI_WORKER_IMAGE names, else built from the checkout."""
    return os.environ.get("HODEI_WORKER_IMAGE") or Engine().build("Dockerfile.worker", context=ROOT)


@pytest.fixture(scope="session")
def server_image(_real_engine: None) -> str:
    """Return the server's image: the one that HODEI_TEST_SERVER_IMAGE names, else built from the checkout."""
    return os.environ.get("HODEI_TEST_SERVER_IMAGE") or Engine().build("Dockerfile.server", context=ROOT)


@pytest.fixture(scope="session")
def agent_volume(worker_image: str) -> Iterator[str]:
    """Return a volume with the agent's folder in it, filled as a provider does."""
    engine = Engine()
    name = f"hodei-agent-{secrets.token_hex(6)}"
    engine("volume", "create", "--label", engine.label, name)
    entry, *arguments = copy_command("/agent")
    engine.run("--user", "0", "--volume", f"{name}:/agent", "--entrypoint", entry, worker_image, *arguments)
    yield name
    engine.clean()


def _hodei(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HODEI, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def hodei() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a command of the command line, without any setting of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    return lambda *arguments: _hodei(kept, *arguments)


class Site:
    """A real server whose workers are containers.

    :ivar folder: of the test.
    """

    def __init__(self, folder: Path, docker: Engine) -> None:
        self.folder, self._docker = folder, docker
        self._server: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        port, worker_port = free_port(), free_port()
        self._environment = kept | {
            "HODEI_SERVER": f"127.0.0.1:{port}",
            "HODEI_LISTEN": f"127.0.0.1:{port}",
            "HODEI_WORKER_LISTEN": f"127.0.0.1:{worker_port}",
            "HODEI_DATA_DIR": str(folder / "data"),
            "HODEI_PING_INTERVAL": "200ms",
        }

    def start(self, *options: str) -> None:
        """Start the server; its workers are containers with these options of `docker run`, the image at the end."""
        script = WORKER.format(label=self._docker.label, options=shlex.join(options))
        host = os.environ.get("DOCKER_HOST")
        if host:
            script = script.replace("exec docker", f"DOCKER_HOST={shlex.quote(host)} exec docker")
        (self.folder / "worker.sh").write_text(script)
        self.serve(HODEI_PROVIDER_PROCESS_WORKER_COMMAND=f"sh {self.folder / 'worker.sh'}")

    def serve(self, **environment: str) -> None:
        """Start the server with these settings."""
        self._environment |= environment
        with (self.folder / "server.log").open("wb") as output:
            self._server = subprocess.Popen([HODEI, "server"], env=self._environment, stdout=output, stderr=output)
        self._docker.wait_until(
            lambda: b"server.started" in (self.folder / "server.log").read_bytes(), "the server has started"
        )

    def stop(self) -> None:
        """End the server; workers go on."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            self._server.wait(PATIENCE)

    def hodei(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end, whatever that is."""
        return _hodei(self._environment, *arguments)

    def job(self, *arguments: str) -> str:
        """Run a job that must succeed; return its standard output."""
        done = self.hodei("run", *arguments)
        assert done.returncode == 0, (done.stdout, done.stderr, (self.folder / "server.log").read_text()[-3000:])
        return done.stdout

    def container(self) -> str:
        """Return the only worker's container."""
        self._docker.wait_until(lambda: bool(self._containers()), "the worker's container is there")
        (name,) = self._containers()
        return name

    def _containers(self) -> list[str]:
        return self._docker("ps", "--all", "--quiet", "--filter", f"label={self._docker.label}").split()


@pytest.fixture
def site(tmp_path: Path, docker: Engine) -> Iterator[Site]:
    """Return a server that is yet to be started."""
    made = Site(tmp_path, docker)
    yield made
    made.stop()
