"""`just k8s-up` makes kind's cluster once, of the node image that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CREATE = "kind create cluster --name hodei-test --wait 2m"


def up(folder: Path, clusters: str = "", **variables: str) -> list[str]:
    """Run the recipe with a `kind` that has these clusters, and writes down how it was called; return these lines."""
    calls, program = folder / "calls", folder / "kind"
    program.write_text(f'#!/bin/sh\necho "kind $*" >> "{calls}"\n[ "$1" = create ] || printf "{clusters}"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    environment = kept | variables | {"PATH": f"{folder}:{os.environ['PATH']}"}
    just = Path(sys.executable).with_name("just")
    subprocess.run([just, "k8s-up"], cwd=ROOT, env=environment, capture_output=True, check=True)
    return calls.read_text().splitlines()


@pytest.mark.parametrize("clusters", ["", "another\\nhodei-test-2\\n"])
def test_a_cluster_is_made_of_kinds_own_node_image(tmp_path: Path, clusters: str) -> None:
    """Where there is none of that name, whatever others there are."""
    assert up(tmp_path, clusters) == ["kind get clusters", CREATE]


def test_another_node_image_is_one_variable_away(tmp_path: Path) -> None:
    """Of another version of Kubernetes, or of one's own registry."""
    image = "registry.example/kindest/node:v1.33.4"
    assert up(tmp_path, HODEI_KIND_IMAGE=image) == ["kind get clusters", f"{CREATE} --image {image}"]


def test_a_cluster_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """The second time makes nothing, whichever image is asked for."""
    assert up(tmp_path, "another\\nhodei-test\\n", HODEI_KIND_IMAGE="kindest/node:v1.33.4") == ["kind get clusters"]
