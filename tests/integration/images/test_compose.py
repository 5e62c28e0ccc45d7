"""The deployment with PostgreSQL and an S3 server, from its file."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.needs import lacks
from hodei_faults.ports import free_port

#: The first test that needs an image waits until it is built.
pytestmark = pytest.mark.timeout(900)

FILE = Path(__file__).parents[3] / "deploy" / "compose.yaml"
UP_PATIENCE = 240
#: PostgreSQL of Debian, for machines that can't pull the real image: it takes the same variables and the same volume.
POSTGRES = """
FROM debian:stable-slim
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \\
    && install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
ENV PGDATA=/var/lib/postgresql/data
RUN printf '%s\\n' '#!/bin/sh' 'set -e' 'PATH=$(echo /usr/lib/postgresql/*/bin):$PATH' \\
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \\
    'echo "$POSTGRES_PASSWORD" > /tmp/password' \\
    'initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256' \\
    'echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"' \\
    'echo "CREATE DATABASE $POSTGRES_DB" | postgres --single template1' \\
    'fi' \\
    'exec postgres -c listen_addresses="*" -c unix_socket_directories=/tmp' > /start && chmod 755 /start
USER postgres
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["/start"]
"""
#: MinIO of the machine, for those that can't pull the real image.
STORAGE = """
FROM debian:stable-slim
COPY minio /usr/local/bin/minio
VOLUME /data
ENTRYPOINT ["minio"]
"""


class Compose:
    """`docker compose` with the file, as a project of the test's own.

    :ivar port: where the server is published.
    """

    def __init__(self, docker: Any, **environment: str) -> None:
        self._docker = docker
        self.port = free_port()
        self._project = f"hodei-test-{secrets.token_hex(4)}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        self._environment = kept | environment | {"HODEI_PORT": str(self.port)}

    def __call__(self, *arguments: str) -> str:
        """Run a command that must succeed; return what it printed."""
        command = ["docker", "compose", "--file", str(FILE), "--project-name", self._project, *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=UP_PATIENCE, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture
def plugin(docker: Any) -> None:
    """Need `docker compose`."""
    if docker.attempt("compose", "version").returncode:
        lacks("docker has no compose plugin")


@pytest.mark.usefixtures("plugin")
def test_the_file_is_valid_and_opens_nothing_to_others(docker: Any) -> None:
    """Whoever runs it as it is shows a port to this machine only; what stays up has a health check."""
    services = json.loads(Compose(docker)("config", "--format", "json"))["services"]
    assert set(services) == {"bucket", "database", "server", "storage", "upgrade"}
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert all("healthcheck" in services[name] for name in ("database", "server", "storage"))
    assert all(services[name]["read_only"] for name in ("bucket", "server", "upgrade"))


@pytest.fixture
def storage_image(docker: Any, tmp_path: Path) -> str:
    """Return MinIO's image, or one of the program that HODEI_TEST_MINIO names or that is on the PATH."""
    if not docker.attempt("image", "inspect", "minio/minio:latest").returncode:
        return "minio/minio:latest"
    program = os.environ.get("HODEI_TEST_MINIO") or shutil.which("minio")
    if not program:
        lacks("there is neither MinIO's image nor the program (HODEI_TEST_MINIO)")
    shutil.copy(program, tmp_path / "minio")
    (tmp_path / "Dockerfile").write_text(STORAGE)
    built: str = docker.build("Dockerfile", context=tmp_path)
    return built


@pytest.fixture
def compose(docker: Any, plugin: None, server_image: str, storage_image: str) -> Iterator[Compose]:  # noqa: ARG001 - it is needed
    """Return the deployment; it is removed afterwards, with its data."""
    database = "postgres:17"
    if docker.attempt("image", "inspect", database).returncode:
        database = docker.build(POSTGRES)
    images = {"SERVER": server_image, "DATABASE": database, "STORAGE": storage_image}
    made = Compose(docker, **{f"HODEI_{name}_IMAGE": image for name, image in images.items()})
    yield made
    made("down", "--volumes", "--timeout", "10")


def test_one_command_brings_up_a_server_that_keeps_its_jobs(compose: Compose, hodei: Any) -> None:
    """It is healthy when the command returns; a job runs, and is still known after everything was made anew."""
    compose("up", "--wait", "--wait-timeout", str(UP_PATIENCE - 30))
    done = hodei("--server", f"127.0.0.1:{compose.port}", "run", "--", "sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    compose("down", "--timeout", "30")
    compose("up", "--wait", "--wait-timeout", str(UP_PATIENCE - 30))
    (job,) = json.loads(hodei("--server", f"127.0.0.1:{compose.port}", "list", "--output", "json").stdout)
    followed = hodei("--server", f"127.0.0.1:{compose.port}", "logs", job["job_id"])
    assert followed.stdout == "hello\n"


def test_sealed_logs_are_in_the_s3_server(docker: Any, compose: Compose, hodei: Any) -> None:
    """They are readable from there once they have left the server's disk."""
    compose("up", "--wait", "--wait-timeout", str(UP_PATIENCE - 30))
    server = ("--server", f"127.0.0.1:{compose.port}")
    done = hodei(*server, "run", "--", "sh", "-c", "seq 200000")
    assert done.returncode == 0, done.stderr
    stored = ("exec", "--no-TTY", "storage", "sh", "-c", "find /data/hodei-logs -type f -path '*hodei*' | wc -l")
    docker.wait_until(lambda: int(compose(*stored)) > 0, "the log's segment is in the bucket")
    docker.wait_until(
        lambda: not compose("exec", "--no-TTY", "server", "sh", "-c", "find logs -type f -name '*.sealed'").strip(),
        "the segment has left the disk",
    )
    (job,) = json.loads(hodei(*server, "list", "--output", "json").stdout)
    assert hodei(*server, "logs", job["job_id"]).stdout.splitlines() == [str(number) for number in range(1, 200001)]
