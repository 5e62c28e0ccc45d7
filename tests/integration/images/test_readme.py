"""README's way from a fresh clone to a job in a container."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.containers import leftovers
from hodei_providers.docker.spec import agent_volume_name

ROOT = Path(__file__).parents[3]
BUILD_PATIENCE, PATIENCE = 600, 120
IMAGE = "hodei-jobs-worker:latest"
#: Other jobs and other containers have other names of the same shape.
NAMES = re.compile(r"\bj[0-9a-z]{15}\b|\b[0-9a-f]{12}\b")

#: The image may have to be built.
pytestmark = pytest.mark.timeout(BUILD_PATIENCE + 300)


class Reader:
    """Somebody with a fresh clone, an empty home folder and README; each code block is a terminal of its own."""

    def __init__(self, folder: Path, docker: Any) -> None:
        self.clone, self._output, self._docker = folder / "hodei", folder / "output", docker
        self._home = folder / "home"
        self._home.mkdir()
        private = ("HODEI_", "XDG_", "VIRTUAL_ENV")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(private)}
        self._environment["HOME"] = str(self._home)
        self._server: subprocess.Popen[bytes] | None = None

    def blocks(self, title: str) -> list[tuple[str, str]]:
        """Return the code blocks of a section: of which language each is, and its text."""
        (section,) = re.findall(
            rf"^## {title}\n(.*?)^## ", (self.clone / "README.md").read_text(), re.MULTILINE | re.DOTALL
        )
        return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    def serve(self, commands: str) -> None:
        """Run a block whose last command is a server, until that has started."""
        with self._output.open("wb") as output:
            self._server = self._shell(commands, stdout=output, stderr=output)
        self._docker.wait_until(self._has_started, self._output.read_text, patience=BUILD_PATIENCE)

    def _has_started(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._output.read_text()
        return "server.started" in self._output.read_text()

    def run(self, command: str) -> str:
        """Run a command to its end, which must be a good one; return all that a terminal shows of it."""
        process = self._shell(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        shown = process.communicate(timeout=PATIENCE)[0].decode()
        assert process.returncode == 0, f"{command}: {shown}{self._output.read_text()[-3000:]}"
        return shown

    def _shell(self, commands: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-e", "-c", commands],
            cwd=self.clone,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **streams,
        )

    def left(self) -> list[str]:
        """Return what the engine still has of the jobs."""
        installation = self._home / ".local" / "share" / "hodei" / "installation"
        return leftovers(f"hodei.installation={installation.read_text().strip()}")

    def leave(self) -> None:
        """End the server, as Ctrl-C in its terminal does."""
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGINT)
            self._server.wait(PATIENCE)


@pytest.fixture
def reader(docker: Any, tmp_path: Path) -> Iterator[Reader]:
    """Return a reader of a fresh clone; the image that he builds gives its name back to the one that had it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "hodei")], check=True)
    _install(tmp_path / "hodei")
    before = _image_id(docker)
    made = Reader(tmp_path, docker)
    yield made
    made.leave()
    after = _image_id(docker)
    if before and after != before:
        docker("tag", before, IMAGE)
        docker("rmi", after)
        docker.attempt("volume", "rm", agent_volume_name(after))


def _image_id(docker: Any) -> str:
    found: str = docker.attempt("image", "inspect", "--format", "{{.Id}}", IMAGE).stdout.strip()
    return found


def _install(clone: Path) -> None:
    """Do what `make venv` does, with the packages of this environment in place of a minute's download."""
    environment = clone / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(clone))
    subprocess.run([str(environment / "bin" / "python"), *install], check=True)
    (environment / ".installed").touch()


def test_a_fresh_clone_runs_a_job_in_a_container_by_readmes_words(docker: Any, reader: Reader) -> None:
    """Every command of the section, in its order, with an empty home folder; each shows what README shows.

    Taken for granted: that `make venv` installs what the lock names, as it did for whoever runs this test, and that the
    server's usual ports are free. The clone is of the last commit; its own code is what runs.
    """
    (language, commands), *others = reader.blocks("In containers")
    assert (language, commands.splitlines()[-1].split()[-1]) == ("sh", "server")
    reader.serve(commands)
    assert [language for language, _ in others] == ["console"]
    dialogue = re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", others[0][1])
    assert dialogue
    for command, shown in dialogue:
        assert NAMES.sub("NAME", reader.run(command)) == NAMES.sub("NAME", shown), command
    docker.wait_until(lambda: not reader.left(), "nothing of the jobs is left")
