"""How images are made: the justfile's recipe, and what of a checkout goes into them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hodei

#: The images may have to be built.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[3]
#: Where nothing is pushed to: it keeps the names of these images apart from others.
REGISTRY = "hodei-test.invalid/"
CONTEXT = "FROM busybox:stable\nCOPY . /context\n"


@pytest.fixture
def names(docker: Any) -> Iterator[list[str]]:
    """Return the names that the images are to have; they are removed."""
    images = [f"{REGISTRY}hodei-jobs-{part}" for part in ("worker", "server")]
    tagged = [f"{image}:{tag}" for image in images for tag in ("latest", hodei.__version__)]
    yield tagged
    docker.attempt("rmi", *tagged)


def test_one_recipe_makes_both_images_of_this_revision_tagged_latest_and_with_the_version(
    docker: Any, names: list[str]
) -> None:
    """`just images`, with a registry's name before them; each image says which version and revision it is."""
    just = Path(sys.executable).with_name("just")
    environment = os.environ | {"HODEI_REGISTRY": REGISTRY}
    made = subprocess.run([just, "images"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-3000:]
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in names:
        labels = docker.inspect(name)["Config"]["Labels"]
        told = [labels[f"org.opencontainers.image.{label}"] for label in ("version", "revision")]
        assert told == [hodei.__version__, asked.stdout.strip()]


def test_only_what_images_are_made_of_is_sent_to_the_engine(docker: Any) -> None:
    """Neither history, environment, tests nor docs: a change of those leaves every layer as it is."""
    image = docker("build", "--quiet", "--label", docker.label, "--file", "-", str(ROOT), stdin=CONTEXT)
    try:
        sent = docker.run(image, "ls", "-A", "/context").split()
    finally:
        docker("rmi", "--force", image)
    packages = {"proto", "logstore", "providers", "server", "worker", "client", "cli", "migrations"}
    files = {"pyproject.toml", "README.md", "LICENSE"}
    locks = {"requirements.lock", "requirements-server.lock", "requirements-worker.lock"}
    # The file that says so may be sent, too.
    assert set(sent) - {".dockerignore"} == packages | files | locks
