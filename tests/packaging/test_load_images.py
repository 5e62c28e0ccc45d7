"""Images get to whichever cluster there is: by a registry, by a node's own import, or by kind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "load-images.sh"


def load(folder: Path, *images: str, **variables: str) -> tuple[int, list[str]]:
    """Run the script with programs that only write down how they were called; return its code and these lines."""
    calls = folder / "calls"
    calls.touch()
    for name in ("docker", "kind"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{calls}"\n[ "$1" = save ] && echo archive; exit ${{FAILS:-0}}\n'
        )
        program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    environment = kept | variables | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([SCRIPT, *images], env=environment, capture_output=True, check=False)
    return done.returncode, calls.read_text().splitlines()


def test_without_a_word_images_go_to_kinds_cluster(tmp_path: Path) -> None:
    """The one that `just k8s-up` makes."""
    assert load(tmp_path, "worker:1") == (0, ["kind load docker-image --name hodei-test worker:1"])


def test_with_a_registry_images_are_named_for_it_and_pushed(tmp_path: Path) -> None:
    """Those that have its name already are only pushed."""
    code, calls = load(tmp_path, "worker:1", "registry.example/team/user:1", HODEI_REGISTRY="registry.example/team/")
    assert code == 0
    assert calls == [
        "docker tag worker:1 registry.example/team/worker:1",
        "docker push registry.example/team/worker:1",
        "docker push registry.example/team/user:1",
    ]


def test_a_nodes_own_command_gets_the_archive(tmp_path: Path) -> None:
    """On its standard input."""
    code, calls = load(tmp_path, "worker:1", "user:1", HODEI_K8S_IMPORT=f"cat > {tmp_path}/imported")
    assert (code, calls) == (0, ["docker save worker:1 user:1"])
    assert (tmp_path / "imported").read_text() == "archive\n"


@pytest.mark.parametrize("variables", [{}, {"HODEI_REGISTRY": "r/"}, {"HODEI_K8S_IMPORT": "cat > /dev/null"}])
def test_what_fails_is_told(tmp_path: Path, variables: dict[str, str]) -> None:
    """Whichever way it was to go; an archive that could not be made is no success of who reads it."""
    assert load(tmp_path, "worker:1", FAILS="3", **variables)[0] == 3
