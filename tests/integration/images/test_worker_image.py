"""The worker's image: what is in it, and how a worker lives in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import hodei
from hodei_providers.agent import AGENT_FOLDER, HEALTH_COMMAND

#: The first test that needs an image waits until it is built.
pytestmark = pytest.mark.timeout(900)

#: A root that can't be written to, one writable folder, no privileges: how providers run it.
CONFINED = ("--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
#: What builds or installs; asdf and what it fetches plugins with come by a build argument only.
TOOLS = ("cc", "gcc", "ld", "make", "go", "musl-gcc", "python3", "pip", "pip3", "asdf", "git", "curl")
MIB = 1 << 20


def test_the_image_says_what_it_is_and_runs_as_nobody_special(docker: Any, worker_image: str) -> None:
    """Labels, user, folder, asdf's places, health check and entry point are where the docs say."""
    found = docker.inspect(worker_image)
    config = found["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "hodei-jobs-worker"
    assert labels["licenses"] == "MIT"
    assert {"description", "version", "revision", "base.name"} <= set(labels)
    assert (config["User"], config["WorkingDir"]) == ("1000:1000", "/home/hodei")
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    assert environment["ASDF_DATA_DIR"] == "/home/hodei/.asdf"
    assert environment["ASDF_CONFIG_FILE"] == "/home/hodei/.asdfrc"
    assert config["Entrypoint"] == ["hodei-jobs-worker"]
    assert config["Healthcheck"]["Test"] == ["CMD", "hodei-jobs-worker", "--health"]
    listing = docker.run("--entrypoint", "ls", worker_image, "-l", "/usr/local/bin/hodei-jobs-worker")
    assert listing.endswith(f"-> {AGENT_FOLDER}/hodei-worker")
    assert docker.run(worker_image, "--version") == hodei.__version__


def test_no_build_tool_and_no_other_package_is_in_the_image(docker: Any, worker_image: str) -> None:
    """Nothing on PATH compiles or installs, and the agent's packages are those of the worker's lock."""
    script = f"for each in {' '.join(TOOLS)}; do command -v $each; done; ls {AGENT_FOLDER}/app"
    listing = docker.run("--entrypoint", "sh", worker_image, "-c", script).split()
    expected = {"__main__.py", "__pycache__", "google", "grpc", "hodei", "hodei_worker", "typing_extensions.py"}
    assert set(listing) == expected


def test_the_image_is_small(docker: Any, worker_image: str) -> None:
    """On top of its base it is the agent's folder and little else: 58 MB, of which gRPC is 19 and Python 32."""
    size = docker.inspect(worker_image)["Size"] - docker.inspect("debian:stable-slim")["Size"]
    assert size < 75 * MIB
    folder = docker.run("--entrypoint", "du", worker_image, "-s", "-k", AGENT_FOLDER)
    assert int(folder.split()[0]) < 65 * 1024


def test_a_job_runs_with_a_read_only_root_and_one_writable_folder(site: Any, worker_image: str) -> None:
    """The job is uid 1000, works in the home folder, writes to /tmp and nowhere else, and has the image's variables."""
    site.start(*CONFINED, worker_image)
    script = "id -u; pwd; touch /tmp/x && echo tmp; touch /x || touch ~/x || echo no; echo $ASDF_DATA_DIR; env"
    uid, directory, written, refused, asdf, *environment = site.job("--", "sh", "-c", script).splitlines()
    assert (uid, directory, written, refused) == ("1000", "/home/hodei", "tmp", "no")
    assert asdf == "/home/hodei/.asdf"
    own = {line.partition("=")[0] for line in environment if line.startswith("HODEI_")}
    assert own == {"HODEI_JOB_ID", "HODEI_ATTEMPT", "HODEI_ATTEMPT_UID", "HODEI_WORKER_ID"}


def test_the_health_check_says_whether_the_agent_has_its_stream(docker: Any, site: Any, worker_image: str) -> None:
    """Healthy once it is connected, and no longer when the server has gone."""
    site.start(*CONFINED, "--health-interval=1s", "--health-retries=1", "--health-start-period=0s", worker_image)
    site.hodei("submit", "--", "sleep", "600")
    container = site.container()

    def health() -> str:
        status: str = docker.inspect(container)["State"]["Health"]["Status"]
        return status

    docker.wait_until(lambda: health() == "healthy", "the worker is healthy")
    assert docker("exec", container, *HEALTH_COMMAND) == "hodei worker: connected"
    site.stop()
    docker.wait_until(lambda: health() == "unhealthy", "the worker is unhealthy")
    answer = docker.attempt("exec", container, *HEALTH_COMMAND)
    assert (answer.returncode, answer.stderr) == (1, "hodei worker: not connected to a server\n")


def test_a_worker_that_is_stopped_lets_its_job_finish(docker: Any, site: Any, worker_image: str) -> None:
    """`docker stop` drains: the job ends by itself, its log is whole, and the worker exits with 0."""
    site.start(*CONFINED, "--volume", f"{site.folder}:/shared", worker_image)
    site.folder.chmod(0o777)
    script = "echo first; touch /shared/started; until [ -e /shared/go ]; do sleep 0.05; done; echo last"
    job = site.hodei("submit", "--", "sh", "-c", script).stdout.strip()
    docker.wait_until((site.folder / "started").exists, "the job has started")
    container = site.container()
    docker("kill", "--signal", "TERM", container)
    docker.wait_until(lambda: "draining" in docker.attempt("logs", container).stderr, "the worker drains")
    (site.folder / "go").touch()
    assert docker("wait", container) == "0"
    followed = site.hodei("logs", "-f", job)
    assert followed.stdout.split() == ["first", "last"]
    assert json.loads(site.hodei("get", job, "--output", "json").stdout)["state"] == "JOB_STATE_SUCCEEDED"


def test_the_agent_reaps_orphans_as_process_one(site: Any, worker_image: str) -> None:
    """W18: without an init above it, the agent takes what a job orphans, and leaves no zombie while the job runs."""
    site.start(*CONFINED, worker_image)
    script = """
        for i in 1 2 3 4 5; do (sh -c 'sleep 0.2; grep PPid: /proc/$$/status; exit 3' &); done
        until [ "$(grep -l '^sleep' /proc/[0-9]*/comm)" = "" ]; do :; done
        while grep -l '^State:.Z' /proc/[0-9]*/status; do sleep 0.1; done
        cat /proc/1/comm
    """
    said = site.job("--timeout", "30s", "--", "sh", "-c", script).split()
    assert said.count("PPid:") == said.count("1") == 5
    assert said[-1] == "hodei-worker"


@pytest.mark.parametrize("again", [False, True], ids=["whole", "interrupted"])
def test_copying_the_agent_can_be_repeated(docker: Any, worker_image: str, agent_volume: str, *, again: bool) -> None:
    """A second copy finds everything there; one that was interrupted is made whole."""
    volume = ("--user", "0", "--volume", f"{agent_volume}:/agent")
    if again:
        docker.run(*volume, "--entrypoint", "rm", worker_image, "-r", "/agent/.complete", "/agent/lib/libc.so.6")
    said = docker.run(*volume, worker_image, "--copy-agent", "/agent")
    assert said == f"hodei worker: {'the agent was copied to /agent' if again else '/agent is complete'}"
    difference = docker.run(
        *volume, "--entrypoint", "diff", worker_image, "-r", "-x", ".complete", AGENT_FOLDER, "/agent"
    )
    assert difference == ""
