"""README's way from a fresh clone to a job in a container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.containers import leftovers
from hodei_faults.reader import BUILD_PATIENCE, Reader

#: Other jobs and other containers have other names of the same shape.
NAMES = re.compile(r"\bj[0-9a-z]{15}\b|\b[0-9a-f]{12}\b")

#: The image may have to be built.
pytestmark = pytest.mark.timeout(BUILD_PATIENCE + 300)


@pytest.fixture
def reader(tmp_path: Path, borrowed_names: None) -> Iterator[Reader]:  # noqa: ARG001 - what is built takes names
    """Return a reader of a fresh clone."""
    made = Reader(tmp_path)
    yield made
    made.leave()


def left(reader: Reader) -> list[str]:
    """Return what the engine still has of the jobs."""
    installation = reader.home / ".local" / "share" / "hodei" / "installation"
    return leftovers(f"hodei.installation={installation.read_text().strip()}")


def test_a_fresh_clone_runs_a_job_in_a_container_by_readmes_words(docker: Any, reader: Reader) -> None:
    """Every command of the section, in its order, with an empty home folder; each shows what README shows.

    The clone is of the last commit; its own code is what runs.
    """
    (language, commands), *others = reader.blocks("README.md", "In containers")
    assert (language, commands.splitlines()[-1].split()[-1]) == ("sh", "server")
    reader.serve(commands)
    assert [language for language, _ in others] == ["console"]
    dialogue = re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", others[0][1])
    assert dialogue
    for command, shown in dialogue:
        assert NAMES.sub("NAME", reader.run(command)) == NAMES.sub("NAME", shown), command
    docker.wait_until(lambda: not left(reader), "nothing of the jobs is left")
