"""The deployment with PostgreSQL, from its file."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


class Compose:
    """`docker compose` with the file, as a project of the test's own.

    :ivar port: where the server is published.
    """

    def __init__(self, docker: Any, **environment: str) -> None:
        self._docker = docker
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
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
        message = "docker has no compose plugin"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.mark.usefixtures("plugin")
def test_the_file_is_valid_and_opens_nothing_to_others(docker: Any) -> None:
    """Whoever runs it as it is shows a port to this machine only; what stays up has a health check."""
    services = json.loads(Compose(docker)("config", "--format", "json"))["services"]
    assert set(services) == {"database", "server", "upgrade"}
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert all("healthcheck" in services[name] for name in ("database", "server"))
    assert all(services[name]["read_only"] for name in ("server", "upgrade"))


@pytest.fixture
def compose(docker: Any, plugin: None, server_image: str) -> Iterator[Compose]:  # noqa: ARG001 - it is needed
    """Return the deployment; it is removed afterwards, with its data."""
    database = "postgres:17"
    if docker.attempt("image", "inspect", database).returncode:
        database = docker.build(POSTGRES)
    made = Compose(docker, HODEI_SERVER_IMAGE=server_image, HODEI_DATABASE_IMAGE=database)
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
