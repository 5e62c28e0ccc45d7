"""docs/kubernetes.md's way from a fresh clone to a job, on kind.

Needs `kind`, and HODEI_TEST_KIND_IMAGE: the image of its node, which the engine has or can pull. Skipped elsewhere, in
CI too: whoever has both sees it pass, or fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.just import SAID
from hodei_faults.reader import BUILD_PATIENCE, Reader

CLUSTER = "hodei-test"
ACTIVATE = ". .venv/bin/activate; "

pytestmark = pytest.mark.timeout(BUILD_PATIENCE + 600)


def clusters() -> list[str]:
    """Return the names of kind's clusters."""
    return subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def reader(tmp_path: Path, borrowed_names: None) -> Iterator[Reader]:  # noqa: ARG001 - what is built takes names
    """Return a reader of a fresh clone who has `kind`, and a node image; the cluster goes with the test."""
    image = os.environ.get("HODEI_TEST_KIND_IMAGE")
    if not image or not shutil.which("kind"):
        pytest.skip("no kind, or HODEI_TEST_KIND_IMAGE names no image for its node")
    if CLUSTER in clusters():
        pytest.skip(f"there is a cluster {CLUSTER}, which is somebody's: kind delete cluster --name {CLUSTER}")
    made = Reader(tmp_path, HODEI_KIND_IMAGE=image)
    yield made
    made.leave()
    subprocess.run(["kind", "delete", "cluster", "--name", CLUSTER], check=True)


def test_a_fresh_clone_runs_a_job_on_kind_by_the_pages_words(docker: Any, reader: Reader) -> None:
    """Every line of the section; then its other jobs end with their codes, and the same cluster is not made again."""
    (language, commands), job = reader.blocks("docs/kubernetes.md", "From nothing to a job")
    assert (language, commands.splitlines()[-1]) == ("sh", "hodei server")
    reader.serve(commands)
    assert job[0] == "sh"
    assert SAID["hello"] in reader.run(job[1])
    assert "unknown_variable" not in reader.shown()

    shown = reader.run(f"{ACTIVATE}just job-k8s-all")
    assert [word for word in SAID.values() if word not in shown] == [], shown
    assert "Insufficient nvidia.com/gpu" in reader.run(f"{ACTIVATE}just job-k8s-gpu", code=125)

    node = docker.inspect(f"{CLUSTER}-control-plane")["Id"]
    assert "Creating" not in reader.run(f"{ACTIVATE}just k8s-up")
    assert docker.inspect(f"{CLUSTER}-control-plane")["Id"] == node
