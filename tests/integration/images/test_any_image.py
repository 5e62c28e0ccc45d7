"""A job in an image that has no Hodei in it: the agent comes along in a folder of its own."""

from __future__ import annotations

from typing import Any

import pytest

from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER
from hodei_providers.docker.config import DockerConfig

#: The first test that needs an image waits until it is built.
pytestmark = pytest.mark.timeout(900)

#: What would upset a loader, a C library, Python or gRPC that took it for its own.
HOSTILE = {
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "LD_LIBRARY_PATH": "/bin:/nowhere",
    "LD_PRELOAD": "/bin/sh",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "https_proxy": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "LC_ALL": "xx_XX.KOI8-R",
}
#: A program that needs musl, in an image that has musl and nothing else.
MUSL = """
FROM debian:stable-slim AS build
RUN apt-get update \\
    && apt-get install -y --no-install-recommends gcc binutils musl-tools \\
    && rm -rf /var/lib/apt/lists/*
RUN printf '#include <stdio.h>\\nint main(void) { puts("of musl"); }' > /hello.c \\
    && musl-gcc -o /hello /hello.c && mkdir -p /image/lib /image/tmp && chmod 1777 /image/tmp \\
    && cp /hello /image/ && cp -L /lib/ld-musl-*.so.1 /image/lib/ \\
    && ! ldd /hello 2>/dev/null | grep libc.so.6
FROM scratch
COPY --from=build /image /
ENV PATH=/
"""

#: Tells the limits that the kernel keeps, of version 2 or of version 1.
LIMITS = "cd /sys/fs/cgroup; cat cpu.max memory.max 2>&- || cat cpu/cpu.cfs_[pq]*_us memory/memory.limit_in_bytes"
#: The worker's image with a project in it, whose test that is.
PROJECT = f"""
USER 0
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
USER 1000:1000
RUN printf 'test:\\n\\t@%s\\n' '{LIMITS}' > Makefile
"""


@pytest.fixture
def in_image(agent_volume: str) -> tuple[str, ...]:
    """Return the options of `docker run` that bring the agent along; the image follows."""
    return ("--read-only", "--tmpfs", "/tmp", "-v", f"{agent_volume}:{AGENT_FOLDER}:ro", "--entrypoint", *AGENT_COMMAND)


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("debian:stable-slim", "ls /etc/debian_version"),
        ("busybox:stable", "busybox echo no libc here"),
        ("musl", "hello"),
    ],
)
def test_a_job_runs_in_an_image_of_any_c_library_or_none(
    docker: Any, site: Any, in_image: tuple[str, ...], image: str, command: str
) -> None:
    """Nothing of the image is needed: neither a C library, nor Python, nor a shell."""
    site.start(*in_image, docker.build(MUSL) if image == "musl" else image)
    said = site.job("--", *command.split())
    assert said == {"hello": "of musl\n"}.get(command, f"{command.partition(' ')[2].removeprefix('echo ')}\n")


def test_the_job_has_the_images_user_directory_and_environment(
    docker: Any, site: Any, in_image: tuple[str, ...]
) -> None:
    """What the image says reaches the job unchanged, however hostile to the agent; nothing of the agent is added."""
    lines = "\n".join(f"ENV {name}={value}" for name, value in HOSTILE.items())
    image = docker.build(
        f"FROM debian:stable-slim\nRUN install -d -o 4711 /srv/app\n{lines}\nENV GREETING='a b=c'\n"
        'USER 4711:4712\nWORKDIR /srv/app\nENTRYPOINT ["/bin/false"]\nCMD ["never"]\n'
    )
    script = "id -u; id -g; pwd; tr '\\0' '\\n' < /proc/$$/environ"
    plain = docker.run("--network", "host", "--entrypoint", "/bin/sh", image, "-c", script).splitlines()
    site.start(*in_image, image)
    job = site.job("--", "/bin/sh", "-c", script).splitlines()
    assert job[:3] == plain[:3] == ["4711", "4712", "/srv/app"]
    own = ("HODEI_", "TRACEPARENT=", "HOSTNAME=")
    assert {line for line in job[3:] if not line.startswith(own)} == {
        line for line in plain[3:] if not line.startswith(own)
    }
    assert set(HOSTILE) <= {line.partition("=")[0] for line in job}


def test_a_job_may_say_otherwise(docker: Any, site: Any, in_image: tuple[str, ...]) -> None:
    """Its own directory and variables win over the image's."""
    image = docker.build("FROM busybox:stable\nENV A=image B=image\nWORKDIR /etc\n")
    site.start(*in_image, image)
    said = site.job("--env", "A=job", "--workdir", "/bin", "--", "sh", "-c", "pwd; echo $A $B")
    assert said.split() == ["/bin", "job", "image"]


def test_a_program_that_the_image_lacks_is_told_of(site: Any, in_image: tuple[str, ...]) -> None:
    """127, as in a shell, and the program's name."""
    site.start(*in_image, "busybox:stable")
    done = site.hodei("run", "--", "python3", "-c", "1")
    assert done.returncode == 127
    assert "python3: not found" in done.stderr


def test_hodei_run_names_an_image(site: Any, worker_image: str) -> None:
    """As a user does, on the Docker provider: with and without a C library, by users that may do little."""
    site.serve(HODEI_DOCKER_ENABLED="1", HODEI_PROVIDERS="docker", HODEI_WORKER_IMAGE=worker_image)
    assert "etc" in site.job("--image", "debian:stable-slim", "--", "ls").split()
    assert site.job("--image", "busybox:stable", "--", "id", "-u") == "0\n"
    script = "busybox | head -n 1 | grep -o BusyBox; touch /tmp/x && echo written"
    assert site.job("--image", "busybox:stable", "--", "sh", "-c", script).split() == ["BusyBox", "written"]
    done = site.hodei(
        "run", "--image", "busybox:stable", "--memory", "64Mi", "--cpu", "0.5", "--", "sh", "-c", "exit 7"
    )
    assert done.returncode == 7, done.stderr


def test_a_projects_tests_run_within_the_limits_that_are_asked_for(docker: Any, site: Any, worker_image: str) -> None:
    """As the first thing that a platform engineer tries; the memory has the agent's overhead on top."""
    site.serve(HODEI_DOCKER_ENABLED="1", HODEI_WORKER_IMAGE=docker.build(f"FROM {worker_image}\n{PROJECT}"))
    said = site.job("--provider", "docker", "--cpu", "0.5", "--memory", "256Mi", "--", "make", "test")
    memory = (256 << 20) + DockerConfig().memory_overhead
    assert sorted(map(int, said.split())) == [50_000, 100_000, memory]
