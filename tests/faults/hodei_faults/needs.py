"""What tests need of the machine: a laptop that lacks it skips them, CI fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def lacks(message: str) -> NoReturn:
    """End a test, or all that use a fixture: something that they need is not here."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def engine_socket() -> Path:
    """Return the socket that Docker's engine listens on."""
    path = Path("/var/run/docker.sock")
    if not path.exists():
        lacks(f"the engine has no socket here ({path})")
    return path


def need_image(image: str) -> None:
    """Need an engine that has an image, the worker's (HODEI_WORKER_IMAGE)."""
    try:
        missing = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).stderr
    except FileNotFoundError as error:
        missing = str(error).encode()
    if missing:
        lacks(f"no engine with the image {image} (HODEI_WORKER_IMAGE): {missing.decode().strip()}")
