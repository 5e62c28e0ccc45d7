"""The server's image: what is in it, and how a server lives in it."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest

import hodei

#: The first test that needs an image waits until it is built.
pytestmark = pytest.mark.timeout(900)

CONFINED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PROBED = ("--health-interval=1s", "--health-timeout=5s", "--health-retries=1", "--health-start-period=0s")
TOOLS = ("cc", "gcc", "ld", "make", "go", "pip", "pip3")
MIB = 1 << 20


class Container:
    """A server in a container with a volume of its own."""

    def __init__(self, docker: Any, image: str, *options: str) -> None:
        self._docker = docker
        self.volume = f"hodei-test-{secrets.token_hex(6)}"
        docker("volume", "create", "--label", docker.label, self.volume)
        self.id = docker(
            *("run", "--detach", "--label", docker.label, *CONFINED, *PROBED, "--init"),
            *("--volume", f"{self.volume}:/var/lib/hodei", *options, image),
        )

    def hodei(self, *arguments: str) -> str:
        """Run a command in the container; it must succeed."""
        said: str = self._docker("exec", self.id, "hodei", *arguments)
        return said

    def wait_for(self, status: str) -> None:
        """Wait until the container is `healthy`, or `unhealthy`."""
        last = ""

        def reached() -> bool:
            nonlocal last
            state = self._docker.inspect(self.id)["State"]
            last = f"{state}\n{self._docker('logs', self.id)}"
            return bool(state["Health"]["Status"] == status)

        self._docker.wait_until(reached, lambda: f"it is {status}: {last}")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a folder with a certificate of another name, and its key, readable for the container."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hodei.example -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "key.pem").chmod(0o644)
    tmp_path.chmod(0o755)
    return tmp_path


def test_the_image_says_what_it_is_and_runs_as_nobody_special(docker: Any, server_image: str) -> None:
    """Labels, user, volume, ports, health check and command are where the docs say."""
    config = docker.inspect(server_image)["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "hodei-jobs-server"
    assert {"description", "licenses", "version", "revision", "base.name"} <= set(labels)
    assert config["User"] == "10001:10001"
    assert list(config["Volumes"]) == ["/var/lib/hodei"]
    assert set(config["ExposedPorts"]) == {"50051/tcp", "50052/tcp"}
    assert config["Healthcheck"]["Test"][-1] == "health"
    assert (config["Entrypoint"], config["Cmd"]) == (["hodei"], ["server"])
    assert docker.run(server_image, "--version") == f"hodei {hodei.__version__}"


def test_no_build_tool_is_in_the_image(docker: Any, server_image: str) -> None:
    """Nothing compiles, and nothing installs Python packages."""
    script = f"for each in {' '.join(TOOLS)}; do command -v $each; done; python -c 'import pip' 2>&1 | tail -n 1"
    assert docker.run("--entrypoint", "sh", server_image, "-c", script) == (
        "ModuleNotFoundError: No module named 'pip'"
    )


def test_the_image_is_of_the_size_that_the_docs_say(docker: Any, server_image: str) -> None:
    """On top of its base about 320 MB: half of it are the SDKs of Kubernetes and S3."""
    size = docker.inspect(server_image)["Size"] - docker.inspect("debian:stable-slim")["Size"]
    assert size < 360 * MIB


def test_a_server_keeps_everything_in_its_volume(docker: Any, server_image: str) -> None:
    """With a root that can't be written to; stopped in order, and there again with its jobs after a restart."""
    container = Container(docker, server_image)
    container.wait_for("healthy")
    assert container.hodei("run", "-q", "--", "sh", "-c", "echo hello from $(id -u)") == "hello from 10001"
    job = container.hodei("list", "--output", "json")
    docker("stop", "--time", "30", container.id)
    assert docker.inspect(container.id)["State"]["ExitCode"] == 0
    docker("start", container.id)
    container.wait_for("healthy")
    assert container.hodei("list", "--output", "json") == job


def test_the_health_check_sees_a_server_that_answers_no_more(docker: Any, server_image: str) -> None:
    """A process that is there but stopped is unhealthy; when it goes on, it is healthy."""
    container = Container(docker, server_image)
    container.wait_for("healthy")
    docker("exec", container.id, "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    container.wait_for("unhealthy")
    docker("exec", container.id, "sh", "-c", "kill -CONT $(cat /proc/1/task/1/children)")
    container.wait_for("healthy")


def test_the_health_check_needs_no_certificate(docker: Any, server_image: str, certificate: Path) -> None:
    """Clients must show one and trust the server's; the probe asks the container's loopback, where nothing else is."""
    files = {"TLS_CERT": "cert.pem", "TLS_KEY": "key.pem", "TLS_CLIENT_CA": "cert.pem"}
    options = [f"--env=HODEI_{name}=/tls/{file}" for name, file in files.items()]
    container = Container(
        docker, server_image, f"--volume={certificate}:/tls:ro", "--env=HODEI_LISTEN=https://0.0.0.0:50051", *options
    )
    container.wait_for("healthy")
    refused = docker.attempt("exec", container.id, "hodei", "--server", "http://127.0.0.1:50051", "list")
    assert refused.returncode == 125


def test_the_migrations_are_in_the_image(docker: Any, server_image: str) -> None:
    """`hodei db upgrade` works from it alone."""
    volume = ("--read-only", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/hodei:uid=10001")
    upgraded = docker.run(*volume, server_image, "db", "upgrade")
    assert upgraded.isdigit()
