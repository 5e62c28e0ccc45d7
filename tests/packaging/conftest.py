"""The wheel, built once and installed without extras into an environment that holds nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: All that the wheel's own requirements bring, as folders or files of an environment's site-packages.
REQUIRED = ("grpc", "google/protobuf", "google/_upb", "typing_extensions.py")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def bare_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment with the wheel, gRPC and protocol buffers in it."""
    folder = tmp_path_factory.mktemp("packaging")
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    _copy_tracked(source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    venv.create(environment, with_pip=False, symlinks=True)
    (wheel,) = wheels.glob("hodei_jobs-*.whl")
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    here = Path(sysconfig.get_path("platlib"))
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"]
    there = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    for name in REQUIRED:
        (there / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (here / name).is_dir() else shutil.copy
        copy(here / name, there / name)
    return environment / "bin"


@pytest.fixture(scope="session")
def run_bare(bare_bin: Path) -> Run:
    """Return a function that runs a program of the bare environment, away from the checkout."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(bare_bin / program), *arguments]
        return subprocess.run(
            command, cwd=bare_bin, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def tracked_files() -> list[Path]:
    """Return the files under version control, as paths below the root."""
    return _tracked()


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def _copy_tracked(target: Path) -> None:
    # Copied, so that the build leaves nothing in the checkout.
    for path in _tracked():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)
